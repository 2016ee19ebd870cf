// Bn3dReduce: sum(x - shift) and sum((x - shift)^2).
#pragma once

#include "channel.h"

namespace bn3d {
namespace BN3D_ISA {

// In double throughout: for blocks whose squares leave the range of float, or hold Inf or NaN.
template <typename F>
void reduce_block_wide(const F* x, int64_t count, double shift, ShiftedSums* sums) {
  ShiftedSums block;
  for (int64_t i = 0; i < count; ++i) {
    const double d = x[i] - shift;
    block.sum += d;
    block.square_sum += d * d;
  }
  *sums += block;
}

// The block's own mean is the shift of its squares, so they do not cancel however far the
// channel's shift is away (a corner of zeros in a CT volume); double brings them to `shift`.
template <typename F>
BN3D_INLINE void reduce_block(const F* const (&x)[1], int64_t count, double shift,
                              ShiftedSums* sums) {
  const F first = x[0][0];
  PartialSums<F> from_first;
  for_each_group(x, count, first, [&](const F* const* at) {
    for (int k = 0; k < from_first.kVectors; ++k) from_first.parts[k] += load_nth(at[0], k) - first;
  });
  const F center = static_cast<F>(first + from_first.total() / count);

  PartialSums<F> rest, squares;
  for_each_group(x, count, center, [&](const F* const* at) {
    for (int k = 0; k < rest.kVectors; ++k) {
      const Vector<F> d = load_nth(at[0], k) - center;
      rest.parts[k] += d;
      squares.parts[k] += d * d;
    }
  });

  const double square_sum = squares.total();
  constexpr double kSmallest = 1e-28, kLargest = 1e37;
  if (!(square_sum > kSmallest * count && square_sum < kLargest)) {
    return reduce_block_wide(x[0], count, shift, sums);
  }
  const double sum = rest.total(), away = center - shift;
  sums->sum += sum + count * away;
  sums->square_sum += square_sum + 2 * away * sum + count * away * away;
}

template <typename T>
ShiftedSums reduce(const void* x, ChannelLayout layout, Range range, double shift) {
  using F = Compute<T>;
  ShiftedSums sums;
  const T* const volumes[] = {static_cast<const T*>(x)};
  for_each_block(volumes, layout, range, [&](const F* const(&values)[1], int64_t count) {
    reduce_block(values, count, shift, &sums);
  });
  return sums;
}

}  // namespace BN3D_ISA
}  // namespace bn3d
