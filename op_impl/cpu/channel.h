// Walking over one channel's values: contiguous pieces, blocks of them, groups of a block.
#pragma once

#include "kernels.h"
#include "sums.h"

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

}  // namespace BN3D_ISA
}  // namespace bn3d
