// The operators of backend numpy, with the tensors of the native ones: Python computes them.
#include <stdexcept>
#include <string>

#include "registration.h"

namespace {

// Computes an operator; where it cannot, returns another number than 0 and says why in `message`.
using Compute = int (*)(const char* name, int count, void** params, const int* ndims,
                        int64_t** shapes, const char** dtypes, char* message, int size);

Compute compute = nullptr;

int run(const char* name, int count, void** params, const int* ndims, int64_t** shapes,
        const char** dtypes) {
  const bn3d::DefaultFloatingPoint environment;
  char message[1024] = "no function computes it";
  if (!compute || compute(name, count, params, ndims, shapes, dtypes, message, sizeof message)) {
    throw std::runtime_error(std::string(name) + ": " + message);
  }
  return 0;
}

}  // namespace

BN3D_EXPORT void bn3d_compute_in_python(Compute function) { compute = function; }

// BN3D_IN_PYTHON(name, an Output for each output)
#define BN3D_IN_PYTHON(name, ...)                                                \
  BN3D_OUTPUTS(name, __VA_ARGS__)                                                \
  BN3D_EXPORT int name(int count, void** params, int* ndims, int64_t** shapes,   \
                       const char** dtypes, void* /*stream*/, void* /*extra*/) { \
    return run(#name, count, params, ndims, shapes, dtypes);                     \
  }

using bn3d::kSavedRows;
using bn3d::like;
using bn3d::rows_of_bits;
using bn3d::rows_of_doubles;

BN3D_IN_PYTHON(Bn3dNumpyReduce, like(1), like(1))
BN3D_IN_PYTHON(Bn3dNumpyApply, like(0))
BN3D_IN_PYTHON(Bn3dNumpyGradReduce, like(2), like(2))
BN3D_IN_PYTHON(Bn3dNumpyGradApply, like(1))
BN3D_IN_PYTHON(Bn3dNumpyForwardTraining, like(0), rows_of_bits(kSavedRows, 1))
BN3D_IN_PYTHON(Bn3dNumpyGradientTraining, like(1), like(2), like(2), rows_of_doubles(kSavedRows, 2))
BN3D_IN_PYTHON(Bn3dNumpyForwardInference, like(0), rows_of_bits(kSavedRows, 1))
BN3D_IN_PYTHON(Bn3dNumpyGradientInference, like(1), like(2), like(2),
               rows_of_doubles(kSavedRows, 2))
