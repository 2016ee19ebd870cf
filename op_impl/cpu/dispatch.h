// What is chosen once: an instruction set, and which volumes are written past the caches.
#pragma once

#include "kernels.h"

namespace bn3d {

// Kernels for the best instruction set of this processor that this library was built with.
// The environment variable BN3D_ISA (baseline, avx2, avx512) lowers the choice, for tests.
const Kernels& kernels(DType dtype);

// Volumes of so many bytes and more are written past the caches. The environment variable
// BN3D_STREAMED_BYTES says another number, for tests.
int64_t streamed_bytes();

// Name of the chosen instruction set: "baseline", "avx2" or "avx512".
const char* instruction_set();

}  // namespace bn3d
