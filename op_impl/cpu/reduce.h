// Bn3dReduce: sum(x - shift) and sum((x - shift)^2).
#pragma once

#include "apply.h"
#include "channel.h"

namespace bn3d {
namespace BN3D_ISA {

BN3D_INLINE void add(const ShiftedSums& more, ShiftedSums* sums) {
  sums->sum += more.sum;
  sums->square_sum += more.square_sum;
}

// In double throughout: for blocks whose squares leave the range of float, or hold Inf or NaN,
// and for constant ones (the background of a volume), where there is little to do.
template <typename T>
void reduce_block_wide(const T* x, int64_t count, double shift, ShiftedSums* sums) {
  if (is_constant(x, count)) {
    const double d = element(x[0]) - shift;
    return add({count * d, count * d * d}, sums);
  }
  ShiftedSums block = {};
  for (int64_t i = 0; i < count; ++i) {
    const double d = element(x[i]) - shift;
    block.sum += d;
    block.square_sum += d * d;
  }
  add(block, sums);
}

template <typename T, typename Beside>
BN3D_INLINE ShiftedSums sums_about(const T* const (&x)[1], int64_t count, Compute<T> center,
                                   Beside& beside) {
  PartialSums<Compute<T>> sum, squares;
  const auto group = [&](const auto* const* at) BN3D_INLINE_LAMBDA {
    beside.write_group();
    for (int k = 0; k < sum.kVectors; ++k) {
      const Vector<Compute<T>> d = load_nth(at[0], k) - center;
      sum.parts[k] += d;
      squares.parts[k] += d * d;
    }
  };
  for_each_group(x, count, center, group, [&]() BN3D_INLINE_LAMBDA {
    sum.settle();
    squares.settle();
  });
  return {sum.total(), squares.total()};
}

// The mean of the first values of a block, all but exactly, and exact where all are the same.
template <typename T>
BN3D_INLINE Compute<T> first_center(const T* x, int64_t count) {
  const Compute<T> first = element(x[0]);
  PartialSums<Compute<T>> from_first;
  const T* const group[] = {x};
  const int64_t some = smaller(count, from_first.kWidth);
  const auto add = [&](const auto* const* at) BN3D_INLINE_LAMBDA {
    for (int k = 0; k < from_first.kVectors; ++k) from_first.parts[k] += load_nth(at[0], k) - first;
  };
  for_each_group(group, some, first, add, []() BN3D_INLINE_LAMBDA {});
  return first + from_first.rough_total() * (Compute<T>{1} / some);
}

// Squares are summed about a center near the block's own mean, so they do not cancel however far
// the channel's shift is away (a corner of zeros in a CT volume); double brings them to `shift`.
// The center of the block before does as a rule. Where it does not, the block, which is in cache
// now, is summed again about its own mean.
template <typename T, typename Beside>
BN3D_INLINE void reduce_block(const T* const (&x)[1], int64_t count, double shift,
                              Compute<T>* center, ShiftedSums* sums, Beside& beside) {
  using F = Compute<T>;
  ShiftedSums block = sums_about(x, count, *center, beside);
  // At most half a standard deviation away.
  if (!(4 * block.sum * block.sum <= count * block.square_sum)) {
    *center = static_cast<F>(*center + block.sum / count);
    Nothing nothing;
    block = sums_about(x, count, *center, nothing);
  }
  if (!in_range(block.square_sum, count)) return reduce_block_wide(x[0], count, shift, sums);
  const double away = *center - shift;
  add({block.sum + count * away, block.square_sum + 2 * away * block.sum + count * away * away},
      sums);
}

template <typename T, typename Beside>
BN3D_INLINE ShiftedSums reduce_beside(const void* x, ChannelLayout layout, Range range,
                                      double shift, Beside& beside) {
  ShiftedSums sums = {};
  Compute<T> center = 0;
  bool first = true;
  const T* const volumes[] = {static_cast<const T*>(x)};
  for_each_block(volumes, layout, range,
                 [&](const T* const(&values)[1], int64_t count) BN3D_INLINE_LAMBDA {
                   if (first) center = first_center(values[0], count);
                   first = false;
                   reduce_block(values, count, shift, &center, &sums, beside);
                 });
  return sums;
}

template <typename T>
ShiftedSums reduce(const void* x, ChannelLayout layout, Range range, double shift) {
  Nothing nothing;
  return reduce_beside<T>(x, layout, range, shift, nothing);
}

template <typename T>
ShiftedSums reduce_and_apply(const void* x, ChannelLayout layout, Range range, double shift,
                             const ApplyTask& other) {
  ChannelWriter<T, true, Applied<T>> writer(other.y, layout, range, {other.x, other.affine});
  const ShiftedSums sums = reduce_beside<T>(x, layout, range, shift, writer);
  writer.write_rest();
  return sums;
}

}  // namespace BN3D_ISA
}  // namespace bn3d
