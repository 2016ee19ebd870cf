// Bn3dGradReduce: sum(dy) and sum(dy * (x - mean)).
#pragma once

#include "channel.h"

namespace bn3d {
namespace BN3D_ISA {

// In double throughout: for blocks whose products leave the range of float, or hold Inf or NaN.
template <typename F>
void grad_reduce_block_wide(const F* dy, const F* x, int64_t count, double mean, GradSums* sums) {
  for (int64_t i = 0; i < count; ++i) {
    sums->dy += dy[i];
    sums->dy_centered += dy[i] * (x[i] - mean);
  }
}

template <typename F>
BN3D_INLINE void grad_reduce_block(const F* dy, const F* x, int64_t count, double mean,
                                   GradSums* sums) {
  const Centered<F> center(mean);
  PartialSums<F> sum, product;
  const auto add = [&](int k, int64_t i, int64_t lanes) {
    // Lanes beyond the count have dy = 0.
    const Vector<F> d = load_lanes(dy + i, lanes);
    sum.parts[k] += d;
    product.parts[k] += d * center(load_lanes(x + i, lanes));
  };
  for_each_vector<F>(count, [&](int k, int64_t i) { add(k, i, kLanes<F>); }, add);

  const double product_total = product.total();
  const double sum_total = sum.total();
  constexpr double kSmallest = 1e-28, kLargest = 1e37;
  const double magnitude = product_total < 0 ? -product_total : product_total;
  if (!(magnitude > kSmallest * count && magnitude < kLargest && sum_total < kLargest &&
        sum_total > -kLargest)) {
    return grad_reduce_block_wide(dy, x, count, mean, sums);
  }
  sums->dy += sum_total;
  sums->dy_centered += product_total;
}

template <typename T>
GradSums grad_reduce(const void* dy_channel, const void* x_channel, ChannelLayout layout,
                     Range range, double mean) {
  using F = Compute<T>;
  GradSums sums;
  F dy_buffer[kBlock], x_buffer[kBlock];
  for_each_block(range, [&](Range block) {
    const F* dy = stage(static_cast<const T*>(dy_channel), layout, block, dy_buffer);
    const F* x = stage(static_cast<const T*>(x_channel), layout, block, x_buffer);
    grad_reduce_block(dy, x, block.end - block.begin, mean, &sums);
  });
  return sums;
}

}  // namespace BN3D_ISA
}  // namespace bn3d
