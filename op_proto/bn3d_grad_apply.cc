#include "bn3d_inputs.h"
#include "graph/operator_reg.h"

namespace ge {

// dx = a * dy + b * (x - mean) + c, rounded to x's dtype.
REG_OP(Bn3dGradApply)
    .INPUT(dy, TensorType({DT_FLOAT16, DT_FLOAT, DT_BF16}))
    .INPUT(x, TensorType({DT_FLOAT16, DT_FLOAT, DT_BF16}))
    .INPUT(mean, TensorType({DT_FLOAT}))
    .INPUT(a, TensorType({DT_FLOAT}))
    .INPUT(b, TensorType({DT_FLOAT}))
    .INPUT(c, TensorType({DT_FLOAT}))
    .OUTPUT(dx, TensorType({DT_FLOAT16, DT_FLOAT, DT_BF16}))
    .OP_END_FACTORY_REG(Bn3dGradApply);

static bn3d::Inputs Bn3dGradApplyInputs(const Operator& op) {
  return bn3d::Inputs(op, "Bn3dGradApply", {"dy", "x"}, {"mean", "a", "b", "c"});
}

IMPLEMT_VERIFIER(Bn3dGradApply, Bn3dGradApplyVerify) {
  return Bn3dGradApplyInputs(op).valid() ? GRAPH_SUCCESS : GRAPH_FAILED;
}

IMPLEMT_COMMON_INFERFUNC(Bn3dGradApplyInfer) {
  const bn3d::Inputs inputs = Bn3dGradApplyInputs(op);
  return inputs.valid() ? inputs.UpdateVolume(op, "dx") : GRAPH_FAILED;
}

COMMON_INFER_FUNC_REG(Bn3dGradApply, Bn3dGradApplyInfer);
VERIFY_FUNC_REG(Bn3dGradApply, Bn3dGradApplyVerify);

}  // namespace ge
