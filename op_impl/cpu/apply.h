// Bn3dApply: (x - mean) * multiplier + offset.
#pragma once

#include "channel_writer.h"

namespace bn3d {
namespace BN3D_ISA {

template <typename T>
class Applied {
  using F = Compute<T>;

 public:
  BN3D_INLINE Applied(const void* x, const Affine& affine)
      : x_(static_cast<const T*>(x)),
        center_(affine.mean),
        multiplier_(all<F>(affine.multiplier)),
        offset_(all<F>(affine.offset)) {}

  template <bool kLastTime>
  BN3D_INLINE void fetch(int64_t i, int count) const {
    fetch_ahead<kLastTime>(x_ + i, count);
  }

  BN3D_INLINE Vector<F> operator()(int64_t i, int64_t lanes) const {
    return center_(load_lanes(x_ + i, lanes)) * multiplier_ + offset_;
  }

 private:
  const T* x_;
  Centered<F> center_;
  Vector<F> multiplier_, offset_;
};

template <typename T>
void apply(const void* x, void* y, ChannelLayout layout, Range range, const Affine& affine,
           bool streaming) {
  write<T>(y, layout, range, streaming, Applied<T>(x, affine));
}

}  // namespace BN3D_ISA
}  // namespace bn3d
