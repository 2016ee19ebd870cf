// The per-channel kernels of one element type, compiled once for every instruction set.
//
// All of them work on a range [begin, end) of one channel's values and have the meaning of
// the operator of the same name (python/bn3d/reference.py). Scalars travel as double; the
// arithmetic is float for float32, float16 and bfloat16 volumes and double for float64.
//
// Nothing here has code: of a function outside of the instruction sets' namespaces the linker
// would keep one copy for all processors.
#pragma once

#include <cstdint>

namespace bn3d {

enum class DType { kFloat32, kFloat16, kBFloat16, kFloat64 };
constexpr int kDTypes = 4;

// Where the values of one channel lie in an (N, C, D, H, W) volume: `slabs` (N) runs of `slab`
// (D*H*W) contiguous elements whose starts are `stride` (C*D*H*W) elements apart.
struct ChannelLayout {
  int64_t slabs, slab, stride;
};

struct Range {
  int64_t begin, end;
};

// Sums over values shifted by `shift`.
struct ShiftedSums {
  double sum, square_sum;
};

struct GradSums {
  double dy, dy_centered;
};

struct Affine {
  double mean, multiplier, offset;
};

// dx = a * dy + b * ((x - mean) * rstd) + c. With rstd apart, b stays in float's range even
// where the volume's scale is 1e30.
struct GradAffine {
  double mean, rstd, a, b, c;
};

// The channel that an apply kernel works on beside the reduction of the same range of another.
struct ApplyTask {
  const void* x;
  void* y;
  Affine affine;
};

struct GradApplyTask {
  const void *dy, *x;
  void* dx;
  GradAffine affine;
};

// Blocks are reduced one by one into double. A block of float fits in L1 twice.
constexpr int64_t kBlock = 2048;

// `stream` writes past the caches: right for outputs that are larger than they are. The kernels
// of two operators at once reduce one channel and apply to another, which they stream. Memory
// reads for one and writes for the other at the same time, so both take little longer than one.
struct Kernels {
  ShiftedSums (*reduce)(const void* x, ChannelLayout, Range, double shift);
  void (*apply)(const void* x, void* y, ChannelLayout, Range, const Affine&, bool stream);
  GradSums (*grad_reduce)(const void* dy, const void* x, ChannelLayout, Range, double mean);
  void (*grad_apply)(const void* dy, const void* x, void* dx, ChannelLayout, Range,
                     const GradAffine&, bool stream);
  ShiftedSums (*reduce_and_apply)(const void* x, ChannelLayout, Range, double shift,
                                  const ApplyTask& other);
  GradSums (*grad_reduce_and_apply)(const void* dy, const void* x, ChannelLayout, Range,
                                    double mean, const GradApplyTask& other);
};

}  // namespace bn3d
