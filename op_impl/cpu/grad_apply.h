// Bn3dGradApply: a * dy + b * (x - mean) + c.
#pragma once

#include "channel.h"

namespace bn3d {
namespace BN3D_ISA {

template <typename T>
void grad_apply(const void* dy_channel, const void* x_channel, void* dx_channel,
                ChannelLayout layout, Range range, const GradAffine& affine, bool streaming) {
  using F = Compute<T>;
  const Centered<F> center(affine.mean);
  const F rstd = number<F>(affine.rstd), a = number<F>(affine.a);
  const F b = number<F>(affine.b), c = number<F>(affine.c);
  for_each_run(layout, range, [&](int64_t start, int64_t count) {
    const T* dy = static_cast<const T*>(dy_channel) + start;
    const T* x = static_cast<const T*>(x_channel) + start;
    T* dx = static_cast<T*>(dx_channel) + start;
    map_run(dx, count, streaming, [&](int64_t i, int64_t lanes) {
      const Vector<F> normalized = center(load_lanes(x + i, lanes)) * rstd;
      return load_lanes(dy + i, lanes) * a + normalized * b + c;
    });
  });
  if (streaming) stream_fence();
}

}  // namespace BN3D_ISA
}  // namespace bn3d
