// Bn3dApply and Bn3dGradApply over a range of one channel, whatever the size of the factors: alone,
// or beside the reduction of the same range of another channel.
#pragma once

#include "volume.h"

namespace bn3d {

void apply_channel(const Volume&, const void* x, void* y, int64_t c, Range, const Affine&);
void grad_apply_channel(const Volume&, const void* dy, const void* x, void* dx, int64_t c, Range,
                        const GradAffine&);

// Reduces channel c, applies to channel `other`.
ShiftedSums reduce_and_apply_channel(const Volume&, const void* x, void* y, int64_t c,
                                     int64_t other, Range, double shift, const Affine&);
GradSums grad_reduce_and_apply_channel(const Volume&, const void* dy, const void* x, void* dx,
                                       int64_t c, int64_t other, Range, double mean,
                                       const GradAffine&);

}  // namespace bn3d
