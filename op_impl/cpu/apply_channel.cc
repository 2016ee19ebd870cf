#include "apply_channel.h"

#include <cfloat>
#include <cmath>

#include "channel_vector.h"

namespace bn3d {

namespace {

bool overflows(double factor) { return std::isfinite(factor) && std::fabs(factor) > FLT_MAX; }
bool underflows(double factor) { return factor != 0 && std::fabs(factor) < FLT_MIN; }

// Factors that float does not hold, though the results may be ordinary numbers: gamma/deviation of
// a channel of huge gamma that is all but constant, or of a tiny gamma and a huge deviation.
bool needs_double(const Volume& volume, const Affine& affine) {
  return volume.dtype != DType::kFloat64 &&
         (overflows(affine.mean) || overflows(affine.multiplier) || overflows(affine.offset) ||
          underflows(affine.multiplier));
}

// b may underflow where there is a deviation: (x - mean) * rstd is no larger than the root of the
// count. The operator alone has an rstd of 1, and x of any size.
bool needs_double(const Volume& volume, const GradAffine& affine) {
  return volume.dtype != DType::kFloat64 &&
         (overflows(affine.mean) || overflows(affine.a) || overflows(affine.b) ||
          overflows(affine.c) || underflows(affine.a) ||
          (affine.rstd == 1 && underflows(affine.b)));
}

// One channel's values as double, one by one.
class Values {
 public:
  Values(const Volume& volume, const void* data, int64_t c)
      : values_{const_cast<void*>(volume.channel(data, c)), volume.dtype},
        layout_(volume.layout()) {}
  double get(int64_t i) const { return values_.get(place(i)); }
  void set(int64_t i, double value) const { values_.set(place(i), value); }

 private:
  int64_t place(int64_t i) const { return i / layout_.slab * layout_.stride + i % layout_.slab; }
  ChannelVector values_;
  ChannelLayout layout_;
};

}  // namespace

void apply_channel(const Volume& volume, const void* x, void* y, int64_t c, Range range,
                   const Affine& affine) {
  if (!needs_double(volume, affine)) {
    return kernels(volume.dtype)
        .apply(volume.channel(x, c), volume.channel(y, c), volume.layout(), range, affine,
               volume.streams());
  }
  const Values from(volume, x, c), to(volume, y, c);
  for (int64_t i = range.begin; i < range.end; ++i) {
    to.set(i, (from.get(i) - affine.mean) * affine.multiplier + affine.offset);
  }
}

void grad_apply_channel(const Volume& volume, const void* dy, const void* x, void* dx, int64_t c,
                        Range range, const GradAffine& affine) {
  if (!needs_double(volume, affine)) {
    return kernels(volume.dtype)
        .grad_apply(volume.channel(dy, c), volume.channel(x, c), volume.channel(dx, c),
                    volume.layout(), range, affine, volume.streams());
  }
  const Values gradients(volume, dy, c), values(volume, x, c), to(volume, dx, c);
  for (int64_t i = range.begin; i < range.end; ++i) {
    const double normalized = (values.get(i) - affine.mean) * affine.rstd;
    to.set(i, affine.a * gradients.get(i) + affine.b * normalized + affine.c);
  }
}

ShiftedSums reduce_and_apply_channel(const Volume& volume, const void* x, void* y, int64_t c,
                                     int64_t other, Range range, double shift,
                                     const Affine& affine) {
  const Kernels& kernel = kernels(volume.dtype);
  if (volume.streams() && !needs_double(volume, affine)) {
    return kernel.reduce_and_apply(volume.channel(x, c), volume.layout(), range, shift,
                                   {volume.channel(x, other), volume.channel(y, other), affine});
  }
  apply_channel(volume, x, y, other, range, affine);
  return kernel.reduce(volume.channel(x, c), volume.layout(), range, shift);
}

GradSums grad_reduce_and_apply_channel(const Volume& volume, const void* dy, const void* x,
                                       void* dx, int64_t c, int64_t other, Range range, double mean,
                                       const GradAffine& affine) {
  const Kernels& kernel = kernels(volume.dtype);
  const void *dy_c = volume.channel(dy, c), *x_c = volume.channel(x, c);
  if (volume.streams() && !needs_double(volume, affine)) {
    return kernel.grad_reduce_and_apply(
        dy_c, x_c, volume.layout(), range, mean,
        {volume.channel(dy, other), volume.channel(x, other), volume.channel(dx, other), affine});
  }
  grad_apply_channel(volume, dy, x, dx, other, range, affine);
  return kernel.grad_reduce(dy_c, x_c, volume.layout(), range, mean);
}

}  // namespace bn3d
