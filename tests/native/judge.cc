#include "judge.h"

#include <cmath>

namespace bn3d_test {

namespace {

// Roundings in the arithmetic of the kernels that an output may collect. Blocks of 2048 values are
// summed one after the other in double where float would overflow, underflow or meet a NaN.
constexpr double kRoundings = 16, kRoundingsInDouble = 2048;

// A sum with compensation (Neumaier), so that its own error is beyond the last digit of double.
class Sum {
 public:
  void add(double value) {
    const double next = sum_ + value;
    if (std::fabs(sum_) >= std::fabs(value)) {
      rest_ += (sum_ - next) + value;
    } else {
      rest_ += (value - next) + sum_;
    }
    sum_ = next;
  }
  double get() const { return std::isfinite(sum_) ? sum_ + rest_ : sum_; }

 private:
  double sum_ = 0, rest_ = 0;
};

struct Volume {
  explicit Volume(const Tensor& x) : channels(x.shape[1]), batch(x.shape[0]), slab(1) {
    for (size_t d = 2; d < x.shape.size(); ++d) slab *= x.shape[d];
    const bool wide = x.type == Type::kFloat64;
    unit = wide ? kRoundingsInDouble * 0x1p-53 : kRoundings * 0x1p-24;
    // Products below the arithmetic's range may vanish.
    tiny = wide ? 0x1p-1074 : 0x1p-149;
  }
  double count() const { return static_cast<double>(batch * slab); }
  template <typename Visit>
  void each(int64_t c, Visit visit) const {
    for (int64_t n = 0; n < batch; ++n) {
      for (int64_t i = 0; i < slab; ++i) visit((n * channels + c) * slab + i);
    }
  }
  int64_t channels, batch, slab;
  double unit, tiny;
};

Expected expected_like(const Tensor& tensor) {
  return {std::vector<double>(tensor.size()), std::vector<double>(tensor.size())};
}

// Values of narrow types are rounded twice, by way of float.
void set(Expected* expected, int64_t i, const Tensor& out, double value, double tolerance) {
  const double by_the_way = holds_doubles(out.type) ? 0x1p-51 : 0x1p-24;
  expected->values[i] = value;
  expected->tolerances[i] = tolerance + by_the_way * std::fabs(value);
}

void copy(const Tensor& in, const Tensor& out, Expected* expected) {
  for (int64_t i = 0; i < in.size(); ++i) set(expected, i, out, in.get(i), 0);
}

double largest_distance(const Volume& volume, const Tensor& x, int64_t c, double from) {
  double largest = 0;
  volume.each(c, [&](int64_t i) { largest = std::fmax(largest, std::fabs(x.get(i) - from)); });
  return largest;
}

std::vector<Expected> reduce(const Tensor& x, const Tensor& shift, const Tensor& sum_out,
                             const Tensor& square_out) {
  const Volume volume(x);
  std::vector<Expected> outputs = {expected_like(sum_out), expected_like(square_out)};
  for (int64_t c = 0; c < volume.channels; ++c) {
    Sum sum, squares;
    volume.each(c, [&](int64_t i) {
      const double d = x.get(i) - shift.get(c);
      sum.add(d);
      squares.add(d * d);
    });
    const double largest = volume.unit * largest_distance(volume, x, c, shift.get(c));
    set(&outputs[0], c, sum_out, sum.get(), largest * volume.count());
    const double far = largest_distance(volume, x, c, shift.get(c));
    set(&outputs[1], c, square_out, squares.get(), largest * far * volume.count());
  }
  return outputs;
}

void apply(const Volume& volume, int64_t c, const Tensor& x, double mean, double multiplier,
           double offset, double spread, const Tensor& y, Expected* expected) {
  volume.each(c, [&](int64_t i) {
    const double scaled = (x.get(i) - mean) * multiplier;
    const double tolerance =
        volume.unit * (std::fabs(scaled) + spread * std::fabs(multiplier) + std::fabs(offset)) +
        volume.tiny * (1 + std::fabs(multiplier));
    set(expected, i, y, scaled + offset, tolerance);
  });
}

struct GradSums {
  double dy, centered, dy_tolerance, centered_tolerance;
};

GradSums grad_sums(const Volume& volume, int64_t c, const Tensor& dy, const Tensor& x,
                   double mean) {
  Sum sum, product;
  double sum_magnitude = 0, product_magnitude = 0;
  volume.each(c, [&](int64_t i) {
    const double d = dy.get(i) * (x.get(i) - mean);
    sum.add(dy.get(i));
    product.add(d);
    sum_magnitude += std::fabs(dy.get(i));
    product_magnitude += std::fabs(d);
  });
  return {sum.get(), product.get(), volume.unit * sum_magnitude,
          volume.unit * product_magnitude + volume.tiny * volume.count()};
}

void grad_apply(const Volume& volume, int64_t c, const Tensor& dy, const Tensor& x, double mean,
                double a, double b, double offset, double more, const Tensor& dx,
                Expected* expected) {
  volume.each(c, [&](int64_t i) {
    const double from_dy = a * dy.get(i), from_x = b * (x.get(i) - mean);
    const double tolerance =
        volume.unit * (std::fabs(from_dy) + std::fabs(from_x) + std::fabs(offset)) +
        volume.tiny * (1 + std::fabs(a) + std::fabs(b)) + more;
    set(expected, i, dx, from_dy + from_x + offset, tolerance);
  });
}

std::vector<Expected> forward_training(const std::vector<Tensor*>& t) {
  const Tensor &x = *t[0], &y = *t[6], &saved = *t[7];
  const double eps = t[5]->get(0), momentum = t[5]->get(1);
  const Volume volume(x);
  std::vector<Expected> outputs = {expected_like(y), expected_like(saved), expected_like(*t[3]),
                                   expected_like(*t[4])};
  const double n = volume.count();
  for (int64_t c = 0; c < volume.channels; ++c) {
    double mean = 0, variance = 0;
    if (n > 0) {
      Sum sum, rest, squares;
      volume.each(c, [&](int64_t i) { sum.add(x.get(i)); });
      mean = sum.get() / n;
      volume.each(c, [&](int64_t i) { rest.add(x.get(i) - mean); });
      mean += rest.get() / n;
      volume.each(c, [&](int64_t i) { squares.add((x.get(i) - mean) * (x.get(i) - mean)); });
      variance = squares.get() / n;
    }
    const double squared = variance + eps;
    const double rstd = squared == 0 ? 0 : 1 / std::sqrt(squared);
    const double spread = largest_distance(volume, x, c, mean);
    const double relative = volume.unit;  // of variance: all its terms are positive
    apply(volume, c, x, mean, t[1]->get(c) * rstd, t[2]->get(c), spread, y, &outputs[0]);
    set(&outputs[1], c, saved, mean, volume.unit * spread);
    set(&outputs[1], volume.channels + c, saved, rstd, relative * rstd);
    set(&outputs[1], 2 * volume.channels + c, saved, t[1]->get(c), 0);
    set(&outputs[1], 3 * volume.channels + c, saved, eps, 0);
    double moving_mean = t[3]->get(c), moving_variance = t[4]->get(c);
    double mean_tolerance = 0, variance_tolerance = 0;
    if (n > 0 && momentum != 1) {
      moving_mean = momentum * moving_mean + (1 - momentum) * mean;
      mean_tolerance = volume.unit * spread;
    }
    if (n > 1 && momentum != 1) {
      moving_variance = momentum * moving_variance + (1 - momentum) * variance * (n / (n - 1));
      variance_tolerance = relative * variance;
    }
    set(&outputs[2], c, *t[3], moving_mean, mean_tolerance);
    set(&outputs[3], c, *t[4], moving_variance, variance_tolerance);
  }
  return outputs;
}

std::vector<Expected> gradient_training(const std::vector<Tensor*>& t) {
  const Tensor &dy = *t[0], &x = *t[1], &saved = *t[3];
  const Volume volume(x);
  std::vector<Expected> outputs = {expected_like(*t[4]), expected_like(*t[5]), expected_like(*t[6]),
                                   expected_like(*t[7])};
  const double n = std::fmax(volume.count(), 1);
  for (int64_t c = 0; c < volume.channels; ++c) {
    const double mean = saved.get(c), rstd = saved.get(volume.channels + c);
    const double gamma = saved.get(2 * volume.channels + c);
    const GradSums sums = grad_sums(volume, c, dy, x, mean);
    const double a = gamma * rstd;
    const double b = -a * rstd * rstd * sums.centered / n, offset = -a * sums.dy / n;
    const double spread = largest_distance(volume, x, c, mean);
    const double more =
        std::fabs(a) / n * (sums.dy_tolerance + sums.centered_tolerance * rstd * rstd * spread);
    grad_apply(volume, c, dy, x, mean, a, b, offset, more, *t[4], &outputs[0]);
    set(&outputs[1], c, *t[5], sums.centered * rstd, sums.centered_tolerance * rstd);
    set(&outputs[2], c, *t[6], sums.dy, sums.dy_tolerance);
  }
  copy(saved, *t[7], &outputs[3]);
  return outputs;
}

std::vector<Expected> forward_inference(const std::vector<Tensor*>& t) {
  const double eps = t[5]->get(0);
  const Volume volume(*t[0]);
  const Tensor& saved = *t[7];
  std::vector<Expected> outputs = {expected_like(*t[6]), expected_like(saved)};
  for (int64_t c = 0; c < volume.channels; ++c) {
    const double mean = t[3]->get(c), gamma = t[1]->get(c);
    const double rstd = 1 / std::sqrt(t[4]->get(c) + eps);
    apply(volume, c, *t[0], mean, gamma * rstd, t[2]->get(c), 0, *t[6], &outputs[0]);
    set(&outputs[1], c, saved, mean, 0);
    set(&outputs[1], volume.channels + c, saved, rstd, 0);
    set(&outputs[1], 2 * volume.channels + c, saved, gamma, 0);
    set(&outputs[1], 3 * volume.channels + c, saved, eps, 0);
  }
  return outputs;
}

std::vector<Expected> gradient_inference(const std::vector<Tensor*>& t) {
  const Tensor &dy = *t[0], &x = *t[1], &saved = *t[3];
  const Volume volume(x);
  std::vector<Expected> outputs = {expected_like(*t[4]), expected_like(*t[5]), expected_like(*t[6]),
                                   expected_like(*t[7])};
  for (int64_t c = 0; c < volume.channels; ++c) {
    const double mean = saved.get(c), rstd = saved.get(volume.channels + c);
    const double gamma = saved.get(2 * volume.channels + c);
    const GradSums sums = grad_sums(volume, c, dy, x, mean);
    apply(volume, c, dy, 0, gamma * rstd, 0, 0, *t[4], &outputs[0]);
    set(&outputs[1], c, *t[5], sums.centered * rstd, sums.centered_tolerance * rstd);
    set(&outputs[2], c, *t[6], sums.dy, sums.dy_tolerance);
  }
  copy(saved, *t[7], &outputs[3]);
  return outputs;
}

}  // namespace

std::vector<Expected> judge(const std::string& name, const std::vector<Tensor*>& t) {
  if (name == "Bn3dReduce") return reduce(*t[0], *t[1], *t[2], *t[3]);
  if (name == "Bn3dForwardTraining") return forward_training(t);
  if (name == "Bn3dGradientTraining") return gradient_training(t);
  if (name == "Bn3dForwardInference") return forward_inference(t);
  if (name == "Bn3dGradientInference") return gradient_inference(t);

  const bool gradient = name == "Bn3dGradReduce" || name == "Bn3dGradApply";
  const Volume volume(*t[gradient ? 1 : 0]);
  std::vector<Expected> outputs = {expected_like(*t[name == "Bn3dApply"        ? 4
                                                    : name == "Bn3dGradReduce" ? 3
                                                                               : 6])};
  if (name == "Bn3dGradReduce") outputs.push_back(expected_like(*t[4]));
  for (int64_t c = 0; c < volume.channels; ++c) {
    if (name == "Bn3dApply") {
      apply(volume, c, *t[0], t[1]->get(c), t[2]->get(c), t[3]->get(c), 0, *t[4], &outputs[0]);
    } else if (name == "Bn3dGradReduce") {
      const GradSums sums = grad_sums(volume, c, *t[0], *t[1], t[2]->get(c));
      set(&outputs[0], c, *t[3], sums.dy, sums.dy_tolerance);
      set(&outputs[1], c, *t[4], sums.centered, sums.centered_tolerance);
    } else {
      grad_apply(volume, c, *t[0], *t[1], t[2]->get(c), t[3]->get(c), t[4]->get(c), t[5]->get(c), 0,
                 *t[6], &outputs[0]);
    }
  }
  return outputs;
}

}  // namespace bn3d_test
