// Walking over one channel's values: contiguous runs, and blocks in the arithmetic type.
#pragma once

#include "kernels.h"
#include "simd.h"

namespace bn3d {
namespace BN3D_ISA {

BN3D_INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

// The contiguous pieces of a range of a channel's values, in their order.
class Pieces {
 public:
  BN3D_INLINE Pieces(ChannelLayout layout, Range range)
      : layout_(layout), at_(range.begin), left_(range.end - range.begin) {
    if (range.begin < layout.slab) return;  // a division takes longer than a small channel
    slab_ = range.begin / layout.slab * layout.stride;
    at_ = range.begin % layout.slab;
  }

  BN3D_INLINE int64_t left() const { return left_; }

  // The number of elements in the next piece, at most `most`, and the offset of its first one.
  BN3D_INLINE int64_t next(int64_t most, int64_t* start) {
    const int64_t count = smaller(smaller(most, left_), layout_.slab - at_);
    *start = slab_ + at_;
    left_ -= count;
    at_ += count;
    if (at_ == layout_.slab) {
      at_ = 0;
      slab_ += layout_.stride;
    }
    return count;
  }

 private:
  ChannelLayout layout_;
  int64_t slab_ = 0, at_, left_;  // offset of the slab, offset in it, elements
};

// The first `count` elements of a vector; the other lanes are 0.
template <typename T>
BN3D_INLINE Vector<Compute<T>> load_part(const T* p, int64_t count) {
  T part[kLanes<Compute<T>>] = {};
  memcpy(part, p, count * sizeof(T));
  return load(part);
}

// Whether all values are the same, bit for bit.
template <typename T>
BN3D_INLINE bool is_constant(const T* values, int64_t count) {
  return memcmp(values, values + 1, (count - 1) * sizeof(T)) == 0;
}

// Calls block(values, count) for the channel's values block by block: contiguous, at most kBlock
// of them. Long runs are read in place, short ones are gathered. Several volumes are walked
// together.
template <typename T, int kVolumes, typename Block>
BN3D_INLINE void for_each_block(const T* const (&volumes)[kVolumes], ChannelLayout layout,
                                Range range, Block block) {
  constexpr int64_t kLongRun = kBlock / 4;
  const bool in_place = layout.slab >= kLongRun || layout.slabs == 1;
  T buffers[kVolumes][kBlock];
  Pieces pieces(layout, range);
  while (pieces.left() > 0) {
    const T* values[kVolumes];
    int64_t start, count;
    if (in_place) {
      count = pieces.next(kBlock, &start);
      for (int v = 0; v < kVolumes; ++v) values[v] = volumes[v] + start;
    } else {
      for (count = 0; count < kBlock && pieces.left() > 0;) {
        const int64_t piece = pieces.next(kBlock - count, &start);
        for (int v = 0; v < kVolumes; ++v) {
          memcpy(buffers[v] + count, volumes[v] + start, piece * sizeof(T));
        }
        count += piece;
      }
      for (int v = 0; v < kVolumes; ++v) values[v] = buffers[v];
    }
    block(values, count);
  }
}

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

// Calls group(pointers) for each kWidth values of volumes that are walked together, and settle()
// after a few of them and at the end. The last group's missing values are `fill`, and all of that
// group are in the arithmetic type.
template <typename T, int kVolumes, typename Group, typename Settle>
BN3D_INLINE void for_each_group(const T* const (&values)[kVolumes], int64_t count, Compute<T> fill,
                                Group group, Settle settle) {
  using F = Compute<T>;
  constexpr int kWidth = PartialSums<F>::kWidth;
  const int64_t full = count / kWidth * kWidth;
  const T* at[kVolumes];
  for (int64_t i = 0; i < full;) {
    for (const int64_t few = smaller(full, i + PartialSums<F>::kFew); i < few; i += kWidth) {
      for (int v = 0; v < kVolumes; ++v) {
        at[v] = values[v] + i;
        fetch_ahead<false>(at[v], kWidth);
      }
      group(at);
    }
    settle();
  }
  if (full == count) return;
  F rest[kVolumes][kWidth];
  const F* rest_at[kVolumes];
  for (int v = 0; v < kVolumes; ++v) {
    for (int k = 0; k < kWidth; ++k) rest[v][k] = fill;
    if constexpr (sizeof(T) == sizeof(F)) {
      memcpy(rest[v], values[v] + full, (count - full) * sizeof(F));
    } else {
      for (int64_t i = full; i < count; ++i) rest[v][i - full] = element(values[v][i]);
    }
    rest_at[v] = rest[v];
  }
  group(rest_at);
  settle();
}

// The k-th vector of a group.
template <typename T>
BN3D_INLINE Vector<Compute<T>> load_nth(const T* group, int k) {
  return load(group + k * kLanes<Compute<T>>);
}

// A full vector or the first lanes of one.
template <typename T>
BN3D_INLINE Vector<Compute<T>> load_lanes(const T* p, int64_t lanes) {
  return lanes == kLanes<Compute<T>> ? load(p) : load_part(p, lanes);
}

// The same scalar in all lanes.
template <typename F>
BN3D_INLINE Vector<F> all(double value) {
  return Vector<F>{} + number<F>(value);
}

// x - mean for a mean in double: the first subtraction is exact near the mean, the second
// brings in the digits of it that F cannot hold.
template <typename F>
struct Centered {
  Vector<F> high, low;
  BN3D_INLINE explicit Centered(double mean)
      : high(all<F>(mean)), low(all<F>(mean - number<F>(mean))) {}
  BN3D_INLINE Vector<F> operator()(Vector<F> x) const { return (x - high) - low; }
};

}  // namespace BN3D_ISA
}  // namespace bn3d
