// Bn3dGradReduce: sum(dy) and sum(dy * (x - mean)).
#pragma once

#include "channel.h"

namespace bn3d {
namespace BN3D_ISA {

// In double throughout: for blocks whose products leave the range of float, or hold Inf or NaN.
template <typename F>
void grad_reduce_block_wide(const F* dy, const F* x, int64_t count, double mean, GradSums* sums) {
  GradSums block;
  for (int64_t i = 0; i < count; ++i) {
    block.dy += dy[i];
    block.dy_centered += dy[i] * (x[i] - mean);
  }
  *sums += block;
}

template <typename F>
BN3D_INLINE void grad_reduce_block(const F* const (&dy_and_x)[2], int64_t count, double mean,
                                   GradSums* sums) {
  const Centered<F> center(mean);
  PartialSums<F> sum, product;
  for_each_group(dy_and_x, count, F{0}, [&](const F* const* at) {
    for (int k = 0; k < sum.kVectors; ++k) {
      const Vector<F> dy = load_nth(at[0], k);
      sum.parts[k] += dy;
      product.parts[k] += dy * center(load_nth(at[1], k));
    }
  });

  const double product_total = product.total();
  const double sum_total = sum.total();
  constexpr double kSmallest = 1e-28, kLargest = 1e37;
  const double magnitude = product_total < 0 ? -product_total : product_total;
  if (!(magnitude > kSmallest * count && magnitude < kLargest && sum_total < kLargest &&
        sum_total > -kLargest)) {
    return grad_reduce_block_wide(dy_and_x[0], dy_and_x[1], count, mean, sums);
  }
  sums->dy += sum_total;
  sums->dy_centered += product_total;
}

template <typename T>
GradSums grad_reduce(const void* dy, const void* x, ChannelLayout layout, Range range,
                     double mean) {
  using F = Compute<T>;
  GradSums sums;
  const T* const volumes[] = {static_cast<const T*>(dy), static_cast<const T*>(x)};
  for_each_block(volumes, layout, range, [&](const F* const(&values)[2], int64_t count) {
    grad_reduce_block(values, count, mean, &sums);
  });
  return sums;
}

}  // namespace BN3D_ISA
}  // namespace bn3d
