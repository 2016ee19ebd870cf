// Bn3dGradReduce: sum(dy) and sum(dy * (x - mean)).
#pragma once

#include "channel.h"
#include "grad_apply.h"

namespace bn3d {
namespace BN3D_ISA {

BN3D_INLINE void add(const GradSums& more, GradSums* sums) {
  sums->dy += more.dy;
  sums->dy_centered += more.dy_centered;
}

// In double throughout: for blocks whose products leave the range of float, or hold Inf or NaN.
template <typename T>
void grad_reduce_block_wide(const T* dy, const T* x, int64_t count, double mean, GradSums* sums) {
  GradSums block = {};
  for (int64_t i = 0; i < count; ++i) {
    const double value = element(dy[i]);
    block.dy += value;
    block.dy_centered += value * (element(x[i]) - mean);
  }
  add(block, sums);
}

template <typename T, typename Beside>
BN3D_INLINE void grad_reduce_block(const T* const (&dy_and_x)[2], int64_t count, double about,
                                   GradSums* sums, Beside& beside) {
  using F = Compute<T>;
  const F center = static_cast<F>(about);
  PartialSums<F> sum, product;
  const auto group = [&](const auto* const* at) BN3D_INLINE_LAMBDA {
    beside.write_group();
    for (int k = 0; k < sum.kVectors; ++k) {
      const Vector<F> dy = load_nth(at[0], k);
      sum.parts[k] += dy;
      product.parts[k] += dy * (load_nth(at[1], k) - center);
    }
  };
  for_each_group(dy_and_x, count, F{0}, group, [&]() BN3D_INLINE_LAMBDA {
    sum.settle();
    product.settle();
  });

  const double product_total = product.total();
  const double sum_total = sum.total();
  // No gradient arrives, as from outside of a mask; a NaN of x shows in the product.
  if (product_total == 0 && element(dy_and_x[0][0]) == 0 && is_constant(dy_and_x[0], count)) return;
  if (!(in_range(magnitude(product_total), count) && magnitude(sum_total) < kLargestSum)) {
    return grad_reduce_block_wide(dy_and_x[0], dy_and_x[1], count, about, sums);
  }
  add({sum_total, product_total}, sums);
}

template <typename T, typename Beside>
BN3D_INLINE GradSums grad_reduce_beside(const void* dy, const void* x, ChannelLayout layout,
                                        Range range, double mean, Beside& beside) {
  // About a mean that float holds, a difference that is exact near it; the rest follows once. One
  // beyond float leaves all blocks to double.
  const double center = number<Compute<T>>(mean);
  const double about = center - center == 0 ? center : mean;
  GradSums sums = {};
  const T* const volumes[] = {static_cast<const T*>(dy), static_cast<const T*>(x)};
  for_each_block(volumes, layout, range,
                 [&](const T* const(&values)[2], int64_t count) BN3D_INLINE_LAMBDA {
                   grad_reduce_block(values, count, about, &sums, beside);
                 });
  if (about != mean) sums.dy_centered -= (mean - about) * sums.dy;
  return sums;
}

template <typename T>
GradSums grad_reduce(const void* dy, const void* x, ChannelLayout layout, Range range,
                     double mean) {
  Nothing nothing;
  return grad_reduce_beside<T>(dy, x, layout, range, mean, nothing);
}

template <typename T>
GradSums grad_reduce_and_apply(const void* dy, const void* x, ChannelLayout layout, Range range,
                               double mean, const GradApplyTask& other) {
  ChannelWriter<T, true, GradApplied<T>> writer(other.dx, layout, range,
                                                {other.dy, other.x, other.affine});
  const GradSums sums = grad_reduce_beside<T>(dy, x, layout, range, mean, writer);
  writer.write_rest();
  return sums;
}

}  // namespace BN3D_ISA
}  // namespace bn3d
