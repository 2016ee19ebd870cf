#include "calls.h"

#include <cmath>
#include <limits>
#include <sstream>

namespace bn3d_test {

const std::vector<EntryPoint>& entry_points() {
  static const std::vector<EntryPoint> all = {
      {"Bn3dReduce", "xm", "ww"},
      {"Bn3dApply", "xmvb", "y"},
      {"Bn3dGradReduce", "dxm", "ww"},
      {"Bn3dGradApply", "dxmvvv", "y"},
      {"Bn3dForwardTraining", "xgbmVs", "yR"},
      {"Bn3dGradientTraining", "dxgS", "yccW"},
      {"Bn3dForwardInference", "xgbmVs", "yR"},
      {"Bn3dGradientInference", "dxgS", "yccW"},
  };
  return all;
}

namespace {

double scale_of(Data data, Type type) {
  const bool wide = type != Type::kFloat16;
  if (data == Data::kTiny) return wide ? 1e-30 : 1e-6;
  if (data == Data::kHuge) return wide ? 1e30 : 1e4;
  if (data == Data::kSteep) return 1e-6;
  if (data == Data::kFlat) return wide ? 1e15 : 1e4;
  return 1;
}

bool steep_or_flat(Data data) { return data == Data::kSteep || data == Data::kFlat; }

double gamma_scale(Data data) {
  return data == Data::kSteep ? 1e36 : data == Data::kFlat ? 1e-30 : 1;
}

double subnormal_scale(Type type) {
  return type == Type::kFloat64 ? 1e-310 : type == Type::kFloat16 ? 1e-5 : 1e-39;
}

// A subnormal value of `type` in every other channel, from `first` on.
double subnormal(Type type, int64_t channel, int64_t first, double ordinary) {
  return channel % 2 == first ? ordinary * subnormal_scale(type) : ordinary;
}

double center_of(const Case& c, int64_t channel) {
  const double sign = channel % 2 ? -1 : 1;
  if (c.data == Data::kFarFromZero) {
    return sign * (c.type == Type::kFloat64 ? 1e8 : c.type == Type::kFloat32 ? 1e5 : 100);
  }
  return sign * scale_of(c.data, c.type) * static_cast<double>(channel % 5);
}

// Every third channel has values that are no numbers, the others are not to notice.
double special(int64_t channel, int64_t i, double ordinary) {
  const double infinity = std::numeric_limits<double>::infinity();
  if (channel % 3 == 1 && i % 7 == 3) return channel % 2 ? std::nan("") : infinity;
  return channel % 3 == 2 && i % 5 == 0 ? ordinary * 1e-40 : ordinary;
}

void fill_volume(const Case& c, bool gradient, Random* random, Tensor* tensor) {
  const int64_t channels = c.shape[1];
  if (tensor->size() == 0) return;
  const int64_t slab = tensor->size() / c.shape[0] / channels;
  const double scale = gradient ? 1 : scale_of(c.data, c.type);
  for (int64_t i = 0; i < tensor->size(); ++i) {
    const int64_t channel = i / slab % channels;
    double value = gradient ? 0.25 : center_of(c, channel);
    if (gradient || c.data != Data::kConstant) value += scale * random->normal();
    if (c.data == Data::kMasked && i % slab < slab / 2) value = gradient ? 0 : -100;
    if (c.data == Data::kSpecial) value = special(channel, i, value);
    if (c.data == Data::kSubnormal) value = subnormal(c.type, channel, 0, value);
    tensor->set(i, value);
  }
}

Tensor make(const Case& c, char kind, Random* random) {
  const bool volume = kind == 'x' || kind == 'd' || kind == 'y';
  if (kind == 's') return settings(c.eps, c.momentum);
  if (kind == 'S' || kind == 'R') return Tensor(Type::kInt64, {4, c.shape[1]});
  if (kind == 'W') return Tensor(Type::kFloat64, {4, c.shape[1]});
  if (volume) {
    Tensor tensor(c.type, c.shape, c.shift);
    if (kind != 'y') fill_volume(c, kind == 'd', random, &tensor);
    return tensor;
  }
  const bool sums = kind == 'w' && c.vectors != Type::kFloat32;
  const Type type = sums ? Type::kFloat64 : c.vectors;
  Tensor tensor(type, {c.shape[1]});
  for (int64_t i = 0; i < tensor.size(); ++i) {
    const double scale = scale_of(c.data, c.type);
    double value = random->normal();
    if (kind == 'g') value = gamma_scale(c.data) * (1 + 0.25 * value);
    if (kind == 'm') value = center_of(c, i) + 0.1 * scale * value;
    if (kind == 'V')
      value = (0.5 + random->uniform()) * (steep_or_flat(c.data) ? scale * scale : 1);
    if (c.data == Data::kSubnormal) value = subnormal(type, i, kind == 'm' ? 0 : 1, value);
    tensor.set(i, value);
  }
  return tensor;
}

// Mean and 1/sqrt(variance + eps) of the volume, roughly, and another gamma than the input: the
// gradient takes what it is given.
void fill_saved(const Case& c, const Tensor& x, Random* random, Tensor* saved) {
  const int64_t channels = c.shape[1];
  for (int64_t i = 0; i < channels; ++i) {
    const bool subnormals = c.data == Data::kSubnormal;
    const double mean = x.size() == 0 ? 0 : center_of(c, i) * (1 + 1e-9);
    double spread = c.data == Data::kConstant ? 0 : scale_of(c.data, c.type);
    if (subnormals) spread = subnormal(c.type, i, 0, spread);
    const double squared = spread * spread + c.eps;
    saved->set(i, subnormals ? subnormal(c.type, i, 0, mean) : mean);
    saved->set(channels + i, squared == 0 ? 0 : 1 / std::sqrt(squared));
    const double gamma = gamma_scale(c.data) * (1 + 0.25 * random->normal());
    saved->set(2 * channels + i, subnormals ? subnormal(Type::kFloat32, i, 1, gamma) : gamma);
    saved->set(3 * channels + i, c.eps);
  }
}

}  // namespace

Arguments Arguments::copy() const {
  Arguments copied;
  for (const Tensor& tensor : tensors) copied.tensors.push_back(tensor.copy());
  return copied;
}

std::vector<Tensor*> Arguments::pointers() {
  std::vector<Tensor*> all;
  for (Tensor& tensor : tensors) all.push_back(&tensor);
  return all;
}

std::vector<Tensor*> Arguments::written(const EntryPoint& entry) {
  std::vector<Tensor*> all;
  for (size_t i = entry.inputs.size(); i < tensors.size(); ++i) all.push_back(&tensors[i]);
  if (entry.name == std::string("Bn3dForwardTraining")) {
    all.push_back(&tensors[3]);
    all.push_back(&tensors[4]);
  }
  return all;
}

Arguments arguments(const Case& c) {
  Random random(c.seed);
  Arguments made;
  for (const char kind : c.entry->inputs + c.entry->outputs) {
    made.tensors.push_back(make(c, kind, &random));
    if (kind == 'S') fill_saved(c, made.tensors[1], &random, &made.tensors.back());
  }
  return made;
}

std::string Case::text() const {
  std::ostringstream text;
  text << entry->name << " " << name_of(type) << " (";
  for (size_t d = 0; d < shape.size(); ++d) text << (d ? "," : "") << shape[d];
  text << "), vectors " << name_of(vectors) << ", data " << static_cast<int>(data) << ", shift "
       << shift;
  return text.str();
}

}  // namespace bn3d_test
