// Compiled once per instruction set, BN3D_ISA naming it: see CMakeLists.txt.
#include "kernels.h"

#include "apply.h"
#include "grad_apply.h"
#include "grad_reduce.h"
#include "reduce.h"

#ifdef __FAST_MATH__
#error "bn3d needs IEEE arithmetic: build it without -ffast-math"
#endif

namespace bn3d {
namespace BN3D_ISA {

template <typename T>
constexpr Kernels kKernelsOf = {reduce<T>,           apply<T>,
                                grad_reduce<T>,      grad_apply<T>,
                                reduce_and_apply<T>, grad_reduce_and_apply<T>};

// In the order of DType.
extern const Kernels kKernels[kDTypes] = {kKernelsOf<float>, kKernelsOf<Half>, kKernelsOf<BFloat16>,
                                          kKernelsOf<double>};

}  // namespace BN3D_ISA
}  // namespace bn3d
