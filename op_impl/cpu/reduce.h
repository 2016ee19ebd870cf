// Bn3dReduce: sum(x - shift) and sum((x - shift)^2).
#pragma once

#include "channel.h"

namespace bn3d {
namespace BN3D_ISA {

// In double throughout: for blocks whose squares leave the range of float, or hold Inf or NaN.
template <typename F>
void reduce_block_wide(const F* x, int64_t count, double shift, ShiftedSums* sums) {
  for (int64_t i = 0; i < count; ++i) {
    const double d = x[i] - shift;
    sums->sum += d;
    sums->square_sum += d * d;
  }
}

// The block's own mean is the shift of its squares, so they do not cancel however far the
// channel's shift is away (a corner of zeros in a CT volume); double brings them to `shift`.
template <typename F>
BN3D_INLINE void reduce_block(const F* x, int64_t count, double shift, ShiftedSums* sums) {
  const auto subtract = [&](int64_t i, int64_t lanes, F center) {
    // Lanes beyond the count hold `center` and so contribute zeros.
    if (lanes == kLanes<F>) return load(x + i) - center;
    F part[kLanes<F>];
    for (int k = 0; k < kLanes<F>; ++k) part[k] = k < lanes ? x[i + k] : center;
    return load(part) - center;
  };

  PartialSums<F> from_first;
  const F first = x[0];
  const auto add_first = [&](int k, int64_t i, int64_t lanes) {
    from_first.parts[k] += subtract(i, lanes, first);
  };
  for_each_vector<F>(count, [&](int k, int64_t i) { add_first(k, i, kLanes<F>); }, add_first);
  const F center = static_cast<F>(first + from_first.total() / count);

  PartialSums<F> rest, squares;
  const auto add_centered = [&](int k, int64_t i, int64_t lanes) {
    const Vector<F> d = subtract(i, lanes, center);
    rest.parts[k] += d;
    squares.parts[k] += d * d;
  };
  for_each_vector<F>(count, [&](int k, int64_t i) { add_centered(k, i, kLanes<F>); }, add_centered);

  const double square_sum = squares.total();
  constexpr double kSmallest = 1e-28, kLargest = 1e37;
  if (!(square_sum > kSmallest * count && square_sum < kLargest)) {
    return reduce_block_wide(x, count, shift, sums);
  }
  const double sum = rest.total(), away = center - shift;
  sums->sum += sum + count * away;
  sums->square_sum += square_sum + 2 * away * sum + count * away * away;
}

template <typename T>
ShiftedSums reduce(const void* x, ChannelLayout layout, Range range, double shift) {
  ShiftedSums sums;
  Compute<T> buffer[kBlock];
  for_each_block(range, [&](Range block) {
    const Compute<T>* values = stage(static_cast<const T*>(x), layout, block, buffer);
    reduce_block(values, block.end - block.begin, shift, &sums);
  });
  return sums;
}

}  // namespace BN3D_ISA
}  // namespace bn3d
