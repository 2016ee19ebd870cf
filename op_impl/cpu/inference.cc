// Inference forward and its gradient: the moving statistics are constants.
#include <cmath>

#include "batch_norm.h"

namespace bn3d {

void forward_inference(const Volume& volume, const void* x, const Parameters& parameters, void* y) {
  const Kernels& kernel = kernels(volume.dtype);
  apply_all(volume, [&](int64_t c, Range range) {
    const double rstd = 1 / std::sqrt(parameters.moving_variance.get(c) + parameters.eps);
    kernel.apply(
        volume.channel(x, c), volume.channel(y, c), volume.layout(), range,
        {parameters.moving_mean.get(c), parameters.gamma.get(c) * rstd, parameters.beta.get(c)},
        volume.streams());
  });
}

void gradient_inference(const Volume& volume, const void* dy, const void* x,
                        const Parameters& parameters, void* dx, ChannelVector dgamma,
                        ChannelVector dbeta, ChannelVector rstd) {
  const Kernels& kernel = kernels(volume.dtype);
  for (int64_t c = 0; c < volume.channels; ++c) {
    rstd.set(c, 1 / std::sqrt(parameters.moving_variance.get(c) + parameters.eps));
  }
  // dx needs no sums, so a chunk is reduced and applied while it is in cache.
  const auto reduce_and_apply = [&](int64_t c, Range range) {
    const GradSums sums = kernel.grad_reduce(volume.channel(dy, c), volume.channel(x, c),
                                             volume.layout(), range, parameters.moving_mean.get(c));
    kernel.apply(volume.channel(dy, c), volume.channel(dx, c), volume.layout(), range,
                 {0, parameters.gamma.get(c) * rstd.get(c), 0}, volume.streams());
    return sums;
  };
  const auto finish = [&](int64_t c, const GradSums& sums) {
    dgamma.set(c, sums.dy_centered * rstd.get(c));
    dbeta.set(c, sums.dy);
  };
  reduce_then_apply<GradSums>(volume, reduce_and_apply, finish, [](int64_t, Range) {});
}

}  // namespace bn3d
