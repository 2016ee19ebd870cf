// Bn3dApply and Bn3dGradApply over a range of one channel, whatever the size of the factors.
#pragma once

#include "volume.h"

namespace bn3d {

void apply_channel(const Volume&, const void* x, void* y, int64_t c, Range, const Affine&);
void grad_apply_channel(const Volume&, const void* dy, const void* x, void* dx, int64_t c, Range,
                        const GradAffine&);

// Whether a kernel is to do it that streams, such as those that reduce another channel meanwhile.
bool streams(const Volume&, const Affine&);
bool streams(const Volume&, const GradAffine&);

}  // namespace bn3d
