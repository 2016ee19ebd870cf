// The four operators, each for itself.
#include "apply_channel.h"
#include "batch_norm.h"
#include "schedule.h"

namespace bn3d {

void reduce(const Volume& volume, const void* x, ChannelVector shift, ChannelVector sum,
            ChannelVector square_sum) {
  const Kernels& kernel = kernels(volume.dtype);
  reduce_all<ShiftedSums>(
      volume,
      [&](int64_t c, Range range) {
        return kernel.reduce(volume.channel(x, c), volume.layout(), range, shift.get(c));
      },
      [&](int64_t c, const ShiftedSums& sums) {
        sum.set(c, sums.sum);
        square_sum.set(c, sums.square_sum);
      });
}

void apply(const Volume& volume, const void* x, ChannelVector mean, ChannelVector multiplier,
           ChannelVector offset, void* y) {
  for_each_chunk(volume, [&](int64_t c, Range range) {
    apply_channel(volume, x, y, c, range, {mean.get(c), multiplier.get(c), offset.get(c)});
  });
}

void grad_reduce(const Volume& volume, const void* dy, const void* x, ChannelVector mean,
                 ChannelVector sum_dy, ChannelVector sum_dy_centered) {
  const Kernels& kernel = kernels(volume.dtype);
  reduce_all<GradSums>(
      volume,
      [&](int64_t c, Range range) {
        return kernel.grad_reduce(volume.channel(dy, c), volume.channel(x, c), volume.layout(),
                                  range, mean.get(c));
      },
      [&](int64_t c, const GradSums& sums) {
        sum_dy.set(c, sums.dy);
        sum_dy_centered.set(c, sums.dy_centered);
      });
}

void grad_apply(const Volume& volume, const void* dy, const void* x, ChannelVector mean,
                ChannelVector a, ChannelVector b, ChannelVector c, void* dx) {
  for_each_chunk(volume, [&](int64_t i, Range range) {
    grad_apply_channel(volume, dy, x, dx, i, range,
                       {mean.get(i), 1.0, a.get(i), b.get(i), c.get(i)});
  });
}

}  // namespace bn3d
