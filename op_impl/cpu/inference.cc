// Inference forward and its gradient: the moving statistics are constants.
#include <cmath>

#include "apply_channel.h"
#include "batch_norm.h"
#include "schedule.h"

namespace bn3d {

void forward_inference(const Volume& volume, const void* x, const Parameters& parameters, void* y,
                       Saved saved) {
  for (int64_t c = 0; c < volume.channels; ++c) {
    saved.mean[c] = parameters.moving_mean.get(c);
    saved.rstd[c] = 1 / std::sqrt(parameters.moving_variance.get(c) + parameters.eps);
    saved.gamma[c] = parameters.gamma.get(c);
    saved.eps[c] = parameters.eps;
  }
  for_each_chunk(volume, [&](int64_t c, Range range) {
    const double multiplier = saved.gamma[c] * saved.rstd[c];
    apply_channel(volume, x, y, c, range, {saved.mean[c], multiplier, parameters.beta.get(c)});
  });
}

void gradient_inference(const Volume& volume, const void* dy, const void* x, Saved saved, void* dx,
                        ChannelVector dgamma, ChannelVector dbeta) {
  const Kernels& kernel = kernels(volume.dtype);
  // dx needs no sums, so a chunk is reduced and applied while it is in cache.
  const auto reduce_and_apply = [&](int64_t c, Range range) {
    const GradSums sums = kernel.grad_reduce(volume.channel(dy, c), volume.channel(x, c),
                                             volume.layout(), range, saved.mean[c]);
    apply_channel(volume, dy, dx, c, range, {0, saved.gamma[c] * saved.rstd[c], 0});
    return sums;
  };
  const auto finish = [&](int64_t c, const GradSums& sums) {
    dgamma.set(c, sums.dy_centered * saved.rstd[c]);
    dbeta.set(c, sums.dy);
  };
  reduce_all<GradSums>(volume, reduce_and_apply, finish);
}

}  // namespace bn3d
