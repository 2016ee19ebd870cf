// Bn3dGradApply: a * dy + b * ((x - mean) * rstd) + c. The operator alone has an rstd of 1.
#pragma once

#include "channel_writer.h"

namespace bn3d {
namespace BN3D_ISA {

template <typename T>
class GradApplied {
  using F = Compute<T>;

 public:
  BN3D_INLINE GradApplied(const void* dy, const void* x, const GradAffine& affine)
      : dy_(static_cast<const T*>(dy)),
        x_(static_cast<const T*>(x)),
        center_(affine.mean),
        rstd_(all<F>(affine.rstd)),
        a_(all<F>(affine.a)),
        b_(all<F>(affine.b)),
        c_(all<F>(affine.c)) {}

  template <bool kLastTime>
  BN3D_INLINE void fetch(int64_t i, int count) const {
    fetch_ahead<kLastTime>(dy_ + i, count);
    fetch_ahead<kLastTime>(x_ + i, count);
  }

  BN3D_INLINE Vector<F> operator()(int64_t i, int64_t lanes) const {
    const Vector<F> normalized = center_(load_lanes(x_ + i, lanes)) * rstd_;
    return load_lanes(dy_ + i, lanes) * a_ + normalized * b_ + c_;
  }

 private:
  const T *dy_, *x_;
  Centered<F> center_;
  Vector<F> rstd_, a_, b_, c_;
};

template <typename T>
void grad_apply(const void* dy, const void* x, void* dx, ChannelLayout layout, Range range,
                const GradAffine& affine, bool streaming) {
  write<T>(dx, layout, range, streaming, GradApplied<T>(dy, x, affine));
}

}  // namespace BN3D_ISA
}  // namespace bn3d
