// Sums of a block's values: their order, and whether float could hold them.
#pragma once

#include "simd.h"

namespace bn3d {
namespace BN3D_ISA {

// Adds lane i to lane i + n for n = kCount/2, ..., 1.
template <typename F, int kCount>
BN3D_INLINE F sum_of_lanes(const typename Lanes<F, kCount>::type& v) {
  if constexpr (kCount == 2) {
    return v[0] + v[1];
  } else {
    typename Lanes<F, kCount / 2>::type halves[2];
    memcpy(halves, &v, sizeof v);
    return sum_of_lanes<F, kCount / 2>(halves[0] + halves[1]);
  }
}

// A sum in kWidth interleaved parts, whatever the vector length, so that every instruction set
// rounds alike. Of a block, each part takes 64 values. Beside a large one all additions may round
// the same way, so a few values are added up before they are settled.
template <typename F>
struct PartialSums {
  static constexpr int kWidth = 128 / sizeof(F);
  static constexpr int kVectors = kWidth / kLanes<F>;
  static constexpr int kFew = 8 * kWidth;
  Vector<F> parts[kVectors], settled[kVectors];

  BN3D_INLINE PartialSums() {
#pragma GCC unroll 16
    for (int k = 0; k < kVectors; ++k) parts[k] = settled[k] = Vector<F>{};
  }

  BN3D_INLINE void settle() {
#pragma GCC unroll 16
    for (int k = 0; k < kVectors; ++k) {
      settled[k] += parts[k];
      parts[k] = Vector<F>{};
    }
  }

  // Adds part i to part i + n for n = kWidth/2, ..., 1, from half of kWidth on in double. All must
  // be settled.
  BN3D_INLINE double total() const {
    constexpr int kWideVectors = kWidth / 2 / kLanes<double>;
    Vector<double> wide[kWideVectors];
    for (int k = 0; k < kVectors / 2; ++k) {
      widen(settled[k] + settled[k + kVectors / 2], wide + k * (kWideVectors / (kVectors / 2)));
    }
#pragma GCC unroll 4
    for (int n = kWideVectors / 2; n > 0; n /= 2) {
      for (int k = 0; k < n; ++k) wide[k] += wide[k + n];
    }
    return sum_of_lanes<double, kLanes<double>>(wide[0]);
  }

  // The same in F, of what is not settled: sooner there.
  BN3D_INLINE F rough_total() const {
    Vector<F> sums[kVectors];
    for (int k = 0; k < kVectors; ++k) sums[k] = parts[k];
#pragma GCC unroll 4
    for (int n = kVectors / 2; n > 0; n /= 2) {
      for (int k = 0; k < n; ++k) sums[k] += sums[k + n];
    }
    return sum_of_lanes<F, kLanes<F>>(sums[0]);
  }
};

BN3D_INLINE double magnitude(double value) { return value < 0 ? -value : value; }

// Sums of float that overflowed are Inf or NaN, and neither is below this.
constexpr double kLargestSum = 1e37;

// Whether a block's sum of products in float can be trusted. Products that underflow are below
// 1.2e-38, which is nothing beside a mean above kSmallestMean.
BN3D_INLINE bool in_range(double sum, int64_t count) {
  constexpr double kSmallestMean = 1e-28;
  return sum > kSmallestMean * count && sum < kLargestSum;
}

}  // namespace BN3D_ISA
}  // namespace bn3d
