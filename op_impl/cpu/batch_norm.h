// The computations behind the entry points of custom_ops.cc. Volumes are (N, C, D, H, W),
// contiguous; channel vectors hold C values. Meaning and formulas: python/bn3d/reference.py.
#pragma once

#include "channel_vector.h"
#include "volume.h"

namespace bn3d {

// The four operators, one pass each.
void reduce(const Volume&, const void* x, ChannelVector shift, ChannelVector sum,
            ChannelVector square_sum);
void apply(const Volume&, const void* x, ChannelVector mean, ChannelVector multiplier,
           ChannelVector offset, void* y);
void grad_reduce(const Volume&, const void* dy, const void* x, ChannelVector mean,
                 ChannelVector sum_dy, ChannelVector sum_dy_centered);
void grad_apply(const Volume&, const void* dy, const void* x, ChannelVector mean, ChannelVector a,
                ChannelVector b, ChannelVector c, void* dx);

struct Parameters {
  ChannelVector gamma, beta, moving_mean, moving_variance;
  double eps, momentum;
};

// What the gradient needs of its forward pass, C values each: mean and 1/sqrt(variance + eps), in
// double since a mean far from zero has no room in float32; gamma as it was, whatever became of the
// parameter; and eps, for the gradient of the gradient.
struct Saved {
  double *mean, *rstd, *gamma, *eps;
};

// Reduce and apply, fused by channel; updates the moving statistics in place.
void forward_training(const Volume&, const void* x, const Parameters&, void* y, Saved);
// Grad-reduce and grad-apply, fused by channel.
void gradient_training(const Volume&, const void* dy, const void* x, Saved, void* dx,
                       ChannelVector dgamma, ChannelVector dbeta);

void forward_inference(const Volume&, const void* x, const Parameters&, void* y, Saved);
void gradient_inference(const Volume&, const void* dy, const void* x, Saved, void* dx,
                        ChannelVector dgamma, ChannelVector dbeta);

}  // namespace bn3d
