// One value a channel, of any floating-point type, read and written as double.
#pragma once

#include "half.h"
#include "kernels.h"

namespace bn3d {

struct ChannelVector {
  void* data;
  DType dtype;

  double get(int64_t c) const {
    switch (dtype) {
      case DType::kFloat32:
        return static_cast<const float*>(data)[c];
      case DType::kFloat16:
        return to_float(static_cast<const portable::Half*>(data)[c]);
      case DType::kBFloat16:
        return to_float(static_cast<const portable::BFloat16*>(data)[c]);
      case DType::kFloat64:
        break;
    }
    return static_cast<const double*>(data)[c];
  }

  void set(int64_t c, double value) const {
    switch (dtype) {
      case DType::kFloat32:
        static_cast<float*>(data)[c] = static_cast<float>(value);
        return;
      case DType::kFloat16:
        static_cast<portable::Half*>(data)[c] = portable::to_half(static_cast<float>(value));
        return;
      case DType::kBFloat16:
        static_cast<portable::BFloat16*>(data)[c] =
            portable::to_bfloat16(static_cast<float>(value));
        return;
      case DType::kFloat64:
        static_cast<double*>(data)[c] = value;
        return;
    }
  }
};

}  // namespace bn3d
