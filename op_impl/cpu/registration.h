// What MindSpore looks for in the library, for one operator.
//
// It calls F(count, params, ndims, shapes, dtypes, stream, extra) with the inputs and then the
// outputs; FInferShape and FInferType give the outputs' shapes and dtypes. It turns an
// exception's what() into a RuntimeError in Python. No std::string crosses the boundary:
// MindSpore's wheels use the old ABI of it, and `extra`, whose functions take strings, is never
// touched.
#pragma once

#include <iterator>
#include <vector>

#include "call.h"
#include "floating_point.h"
#include "outputs.h"

#define BN3D_EXPORT extern "C" __attribute__((visibility("default")))

// What MindSpore asks of the outputs, an Output for each.
#define BN3D_OUTPUTS(name, ...)                                                        \
  static constexpr bn3d::Output k##name##Outputs[] = {__VA_ARGS__};                    \
  BN3D_EXPORT auto name##InferShape(int* ndims, int64_t** shapes, void* /*extra*/) {   \
    return bn3d::shapes_of(#name, k##name##Outputs, ndims, shapes);                    \
  }                                                                                    \
  BN3D_EXPORT auto name##InferType(std::vector<bn3d::TypeId> types, void* /*extra*/) { \
    return bn3d::types_of(k##name##Outputs, types);                                    \
  }

// BN3D_OPERATOR(name, number of inputs, an Output for each output) { body }: the body takes the
// tensors from `call` and computes.
#define BN3D_OPERATOR(name, inputs, ...)                                                     \
  BN3D_OUTPUTS(name, __VA_ARGS__)                                                            \
  static void name##Run(const bn3d::Call& call);                                             \
  BN3D_EXPORT int name(int count, void** params, int* ndims, int64_t** shapes,               \
                       const char** dtypes, void* /*stream*/, void* /*extra*/) {             \
    const bn3d::DefaultFloatingPoint environment;                                            \
    name##Run({#name, inputs + static_cast<int>(std::size(k##name##Outputs)), count, params, \
               ndims, shapes, dtypes});                                                      \
    return 0;                                                                                \
  }                                                                                          \
  static void name##Run(const bn3d::Call& call)
