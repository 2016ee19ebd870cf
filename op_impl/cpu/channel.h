// Walking over one channel's values: contiguous runs, and blocks in the arithmetic type.
#pragma once

#include "kernels.h"
#include "simd.h"

namespace bn3d {
namespace BN3D_ISA {

BN3D_INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

// Calls run(offset of the first element, number of elements) for each contiguous run.
template <typename Run>
BN3D_INLINE void for_each_run(ChannelLayout layout, Range range, Run run) {
  int64_t slab = range.begin / layout.slab, at = range.begin % layout.slab;
  for (int64_t left = range.end - range.begin; left > 0; ++slab, at = 0) {
    const int64_t count = smaller(left, layout.slab - at);
    run(slab * layout.stride + at, count);
    left -= count;
  }
}

// Calls block(range) for each kBlock values.
template <typename Block>
BN3D_INLINE void for_each_block(Range range, Block block) {
  for (int64_t begin = range.begin; begin < range.end; begin += kBlock) {
    block(Range{begin, smaller(begin + kBlock, range.end)});
  }
}

// The first `count` elements of a vector; the other lanes are 0.
template <typename T>
BN3D_INLINE Vector<Compute<T>> load_part(const T* p, int64_t count) {
  T part[kLanes<Compute<T>>] = {};
  memcpy(part, p, count * sizeof(T));
  return load(part);
}

// A block as contiguous values of the arithmetic type: in place where it is that already, else
// copied to `buffer`, which holds kBlock of them.
template <typename T>
BN3D_INLINE const Compute<T>* stage(const T* x, ChannelLayout layout, Range block,
                                    Compute<T>* buffer) {
  using F = Compute<T>;
  const int64_t slab = block.begin / layout.slab;
  if constexpr (sizeof(T) == sizeof(F)) {
    if ((block.end - 1) / layout.slab == slab) {
      return x + slab * layout.stride + block.begin % layout.slab;
    }
  }
  F* to = buffer;
  for_each_run(layout, block, [&](int64_t offset, int64_t count) {
    const T* from = x + offset;
    int64_t i = 0;
    for (; i + kLanes<F> <= count; i += kLanes<F>) {
      const Vector<F> v = load(from + i);
      memcpy(to + i, &v, sizeof v);
    }
    const Vector<F> v = load_part(from + i, count - i);
    memcpy(to + i, &v, (count - i) * sizeof(F));
    to += count;
  });
  return buffer;
}

// A sum in kWidth interleaved parts, whatever the vector length, so that every instruction set
// rounds alike.
template <typename F>
struct PartialSums {
  static constexpr int kWidth = 128 / sizeof(F);
  static constexpr int kVectors = kWidth / kLanes<F>;
  Vector<F> parts[kVectors] = {};

  BN3D_INLINE double total() const {
    F half[kWidth / 2];
    for (int k = 0; k < kVectors / 2; ++k) {
      const Vector<F> v = parts[k] + parts[k + kVectors / 2];
      memcpy(half + k * kLanes<F>, &v, sizeof v);
    }
    double sums[kWidth / 2];
    for (int i = 0; i < kWidth / 2; ++i) sums[i] = half[i];
    for (int n = kWidth / 4; n > 0; n /= 2) {
      for (int i = 0; i < n; ++i) sums[i] += sums[i + n];
    }
    return sums[0];
  }
};

// Calls step(k, offset) for each vector of `count` contiguous values, k being the part that the
// vector belongs to, and rest(k, offset, lanes) for a last vector that is not full.
template <typename F, typename Step, typename Rest>
BN3D_INLINE void for_each_vector(int64_t count, Step step, Rest rest) {
  constexpr int kWidth = PartialSums<F>::kWidth;
  int64_t i = 0;
  for (; i + kWidth <= count; i += kWidth) {
    for (int k = 0; k < PartialSums<F>::kVectors; ++k) step(k, i + k * kLanes<F>);
  }
  for (int k = 0; i < count; ++k, i += kLanes<F>) {
    if (i + kLanes<F> <= count) {
      step(k, i);
    } else {
      rest(k, i, count - i);
    }
  }
}

// Runs y[i] = compute(i) over a contiguous run, a vector at a time: compute(offset, lanes) gives
// the vector that starts at `offset`, of which `lanes` are wanted.
template <typename T, typename ComputeAt>
BN3D_INLINE void map_run(T* y, int64_t count, bool streaming, ComputeAt compute) {
  constexpr int kFull = kLanes<Compute<T>>;
  int64_t i = 0;
  const auto part = [&](int64_t lanes) {
    const auto packed = pack(compute(i, lanes), y);
    memcpy(y + i, packed.bytes, lanes * sizeof(T));
    i += lanes;
  };
  if (streaming) {
    const uintptr_t misaligned = reinterpret_cast<uintptr_t>(y) % (kFull * sizeof(T));
    if (misaligned) part(smaller(count, kFull - misaligned / sizeof(T)));
#pragma GCC unroll 4
    for (; i + kFull <= count; i += kFull) stream(y + i, pack(compute(i, kFull), y));
  } else {
#pragma GCC unroll 4
    for (; i + kFull <= count; i += kFull) {
      const auto packed = pack(compute(i, kFull), y);
      memcpy(y + i, packed.bytes, sizeof packed);
    }
  }
  if (i < count) part(count - i);
}

// A full vector or the first lanes of one.
template <typename T>
BN3D_INLINE Vector<Compute<T>> load_lanes(const T* p, int64_t lanes) {
  return lanes == kLanes<Compute<T>> ? load(p) : load_part(p, lanes);
}

// x - mean for a mean in double: the first subtraction is exact near the mean, the second
// brings in the digits of it that F cannot hold.
template <typename F>
struct Centered {
  F high, low;
  BN3D_INLINE explicit Centered(double mean)
      : high(static_cast<F>(mean)), low(static_cast<F>(mean - high)) {}
  BN3D_INLINE Vector<F> operator()(Vector<F> x) const { return (x - high) - low; }
};

}  // namespace BN3D_ISA
}  // namespace bn3d
