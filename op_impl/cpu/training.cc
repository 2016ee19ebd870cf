// Training forward and gradient, each fused channel by channel.
#include <cmath>
#include <limits>
#include <vector>

#include "apply_channel.h"
#include "batch_norm.h"
#include "schedule.h"

namespace bn3d {

namespace {

// A value of the channel itself, so that the shifted sums of a constant channel are exact zeros.
double first_value(const Volume& volume, const void* channel) {
  if (volume.values() == 0) return 0;
  const double value = ChannelVector{const_cast<void*>(channel), volume.dtype}.get(0);
  return std::isfinite(value) ? value : 0;
}

void update(ChannelVector moving, int64_t c, double momentum, double batch) {
  if (momentum == 1) return;  // not even a NaN of the batch gets in
  moving.set(c, momentum * moving.get(c) + (1 - momentum) * batch);
}

// 1/sqrt(variance + eps). Where that is infinite in the arithmetic of the volume, as for a constant
// channel without eps, 0, as in PyTorch: the channel becomes beta and hands no gradient on.
double reciprocal_deviation(DType dtype, double variance, double eps) {
  const double rstd = 1 / std::sqrt(variance + eps);
  const double largest = dtype == DType::kFloat64 ? std::numeric_limits<double>::max()
                                                  : std::numeric_limits<float>::max();
  return rstd > largest ? 0 : rstd;
}

}  // namespace

void forward_training(const Volume& volume, const void* x, const Parameters& parameters, void* y,
                      Saved saved) {
  const Kernels& kernel = kernels(volume.dtype);
  const double count = static_cast<double>(volume.values());
  const double unbiasing = count / (count - 1);

  const auto reduce = [&](int64_t c, Range range) {
    const void* channel = volume.channel(x, c);
    return kernel.reduce(channel, volume.layout(), range, first_value(volume, channel));
  };
  const auto finish = [&](int64_t c, const ShiftedSums& sums) {
    saved.gamma[c] = parameters.gamma.get(c);
    saved.eps[c] = parameters.eps;
    if (count == 0) {
      saved.mean[c] = 0;
      saved.rstd[c] = reciprocal_deviation(volume.dtype, 0, parameters.eps);
      return;
    }
    const double from_shift = sums.sum / count;
    const double mean = first_value(volume, volume.channel(x, c)) + from_shift;
    double variance = sums.square_sum / count - from_shift * from_shift;
    if (variance < 0) variance = 0;  // a NaN stays
    saved.mean[c] = mean;
    saved.rstd[c] = reciprocal_deviation(volume.dtype, variance, parameters.eps);
    update(parameters.moving_mean, c, parameters.momentum, mean);
    // One value has no unbiased variance.
    if (count > 1) {
      update(parameters.moving_variance, c, parameters.momentum, variance * unbiasing);
    }
  };
  const auto affine = [&](int64_t c) {
    return Affine{saved.mean[c], saved.gamma[c] * saved.rstd[c], parameters.beta.get(c)};
  };
  const auto apply = [&](int64_t c, Range range) {
    apply_channel(volume, x, y, c, range, affine(c));
  };
  const auto reduce_and_apply = [&](int64_t c, int64_t other, Range range) {
    const double shift = first_value(volume, volume.channel(x, c));
    return reduce_and_apply_channel(volume, x, y, c, other, range, shift, affine(other));
  };
  reduce_then_apply<ShiftedSums>(volume, reduce, finish, apply, reduce_and_apply);
}

void gradient_training(const Volume& volume, const void* dy, const void* x, Saved saved, void* dx,
                       ChannelVector dgamma, ChannelVector dbeta) {
  const Kernels& kernel = kernels(volume.dtype);
  const double count = volume.values() > 0 ? static_cast<double>(volume.values()) : 1;
  std::vector<GradAffine> affine(volume.channels);

  const auto reduce = [&](int64_t c, Range range) {
    return kernel.grad_reduce(volume.channel(dy, c), volume.channel(x, c), volume.layout(), range,
                              saved.mean[c]);
  };
  const auto finish = [&](int64_t c, const GradSums& sums) {
    const double rstd = saved.rstd[c], sum_dy_normalized = sums.dy_centered * rstd;
    const double a = saved.gamma[c] * rstd;
    affine[c] = {saved.mean[c], rstd, a, -a * sum_dy_normalized / count, -a * sums.dy / count};
    dgamma.set(c, sum_dy_normalized);
    dbeta.set(c, sums.dy);
  };
  const auto apply = [&](int64_t c, Range range) {
    grad_apply_channel(volume, dy, x, dx, c, range, affine[c]);
  };
  const auto reduce_and_apply = [&](int64_t c, int64_t other, Range range) {
    return grad_reduce_and_apply_channel(volume, dy, x, dx, c, other, range, saved.mean[c],
                                         affine[other]);
  };
  reduce_then_apply<GradSums>(volume, reduce, finish, apply, reduce_and_apply);
}

}  // namespace bn3d
