#include "bn3d_inputs.h"
#include "graph/operator_reg.h"

namespace ge {

// y = (x - mean) * multiplier + offset, rounded to x's dtype.
REG_OP(Bn3dApply)
    .INPUT(x, TensorType({DT_FLOAT16, DT_FLOAT, DT_BF16}))
    .INPUT(mean, TensorType({DT_FLOAT}))
    .INPUT(multiplier, TensorType({DT_FLOAT}))
    .INPUT(offset, TensorType({DT_FLOAT}))
    .OUTPUT(y, TensorType({DT_FLOAT16, DT_FLOAT, DT_BF16}))
    .OP_END_FACTORY_REG(Bn3dApply);

static bn3d::Inputs Bn3dApplyInputs(const Operator& op) {
  return bn3d::Inputs(op, "Bn3dApply", {"x"}, {"mean", "multiplier", "offset"});
}

IMPLEMT_VERIFIER(Bn3dApply, Bn3dApplyVerify) {
  return Bn3dApplyInputs(op).valid() ? GRAPH_SUCCESS : GRAPH_FAILED;
}

IMPLEMT_COMMON_INFERFUNC(Bn3dApplyInfer) {
  const bn3d::Inputs inputs = Bn3dApplyInputs(op);
  return inputs.valid() ? inputs.UpdateVolume(op, "y") : GRAPH_FAILED;
}

COMMON_INFER_FUNC_REG(Bn3dApply, Bn3dApplyInfer);
VERIFY_FUNC_REG(Bn3dApply, Bn3dApplyVerify);

}  // namespace ge
