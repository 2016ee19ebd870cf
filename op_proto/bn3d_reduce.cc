#include "bn3d_inputs.h"
#include "graph/operator_reg.h"

namespace ge {

// Per channel: sum = sum(x - shift), square_sum = sum((x - shift)^2).
REG_OP(Bn3dReduce)
    .INPUT(x, TensorType({DT_FLOAT16, DT_FLOAT, DT_BF16}))
    .INPUT(shift, TensorType({DT_FLOAT}))
    .OUTPUT(sum, TensorType({DT_FLOAT}))
    .OUTPUT(square_sum, TensorType({DT_FLOAT}))
    .OP_END_FACTORY_REG(Bn3dReduce);

static bn3d::Inputs Bn3dReduceInputs(const Operator& op) {
  return bn3d::Inputs(op, "Bn3dReduce", {"x"}, {"shift"});
}

IMPLEMT_VERIFIER(Bn3dReduce, Bn3dReduceVerify) {
  return Bn3dReduceInputs(op).valid() ? GRAPH_SUCCESS : GRAPH_FAILED;
}

IMPLEMT_COMMON_INFERFUNC(Bn3dReduceInfer) {
  const bn3d::Inputs inputs = Bn3dReduceInputs(op);
  if (!inputs.valid()) return GRAPH_FAILED;
  const graphStatus status = inputs.UpdateVector(op, "sum");
  return status == GRAPH_SUCCESS ? inputs.UpdateVector(op, "square_sum") : status;
}

COMMON_INFER_FUNC_REG(Bn3dReduce, Bn3dReduceInfer);
VERIFY_FUNC_REG(Bn3dReduce, Bn3dReduceVerify);

}  // namespace ge
