// Bn3dApply: (x - mean) * multiplier + offset.
#pragma once

#include "channel.h"

namespace bn3d {
namespace BN3D_ISA {

template <typename T>
void apply(const void* x_channel, void* y_channel, ChannelLayout layout, Range range,
           const Affine& affine, bool streaming) {
  using F = Compute<T>;
  const Centered<F> center(affine.mean);
  const F multiplier = number<F>(affine.multiplier), offset = number<F>(affine.offset);
  for_each_run(layout, range, [&](int64_t start, int64_t count) {
    const T* x = static_cast<const T*>(x_channel) + start;
    T* y = static_cast<T*>(y_channel) + start;
    map_run(y, count, streaming, [&](int64_t i, int64_t lanes) {
      fetch_ahead(x + i, kLanes<F>);
      return center(load_lanes(x + i, lanes)) * multiplier + offset;
    });
  });
  if (streaming) stream_fence();
}

}  // namespace BN3D_ISA
}  // namespace bn3d
