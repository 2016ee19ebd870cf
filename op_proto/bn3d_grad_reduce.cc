#include "bn3d_inputs.h"
#include "graph/operator_reg.h"

namespace ge {

// Per channel: sum_dy = sum(dy), sum_dy_centered = sum(dy * (x - mean)).
REG_OP(Bn3dGradReduce)
    .INPUT(dy, TensorType({DT_FLOAT16, DT_FLOAT, DT_BF16}))
    .INPUT(x, TensorType({DT_FLOAT16, DT_FLOAT, DT_BF16}))
    .INPUT(mean, TensorType({DT_FLOAT}))
    .OUTPUT(sum_dy, TensorType({DT_FLOAT}))
    .OUTPUT(sum_dy_centered, TensorType({DT_FLOAT}))
    .OP_END_FACTORY_REG(Bn3dGradReduce);

static bn3d::Inputs Bn3dGradReduceInputs(const Operator& op) {
  return bn3d::Inputs(op, "Bn3dGradReduce", {"dy", "x"}, {"mean"});
}

IMPLEMT_VERIFIER(Bn3dGradReduce, Bn3dGradReduceVerify) {
  return Bn3dGradReduceInputs(op).valid() ? GRAPH_SUCCESS : GRAPH_FAILED;
}

IMPLEMT_COMMON_INFERFUNC(Bn3dGradReduceInfer) {
  const bn3d::Inputs inputs = Bn3dGradReduceInputs(op);
  if (!inputs.valid()) return GRAPH_FAILED;
  const graphStatus status = inputs.UpdateVector(op, "sum_dy");
  return status == GRAPH_SUCCESS ? inputs.UpdateVector(op, "sum_dy_centered") : status;
}

COMMON_INFER_FUNC_REG(Bn3dGradReduce, Bn3dGradReduceInfer);
VERIFY_FUNC_REG(Bn3dGradReduce, Bn3dGradReduceVerify);

}  // namespace ge
