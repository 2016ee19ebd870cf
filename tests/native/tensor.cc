#include "tensor.h"

#include <cmath>
#include <cstring>
#include <limits>

namespace bn3d_test {

namespace {

struct Format {
  const char* name;
  int64_t size;
  int digits, min_exponent;  // of the significand, of the smallest normal number
  double largest;
};

const Format& format_of(Type type) {
  static const Format formats[] = {
      {"float32", 4, 24, -126, 0x1.fffffep127},
      {"float16", 2, 11, -14, 65504},
      {"bfloat16", 2, 8, -126, 0x1.fep127},
      {"float64", 8, 53, -1022, std::numeric_limits<double>::max()},
      {"int64", 8, 0, 0, 0},
  };
  return formats[static_cast<int>(type)];
}

// Sixteen bits, by arithmetic on the value: nothing in common with the library's bit patterns.
uint16_t encode(double value, const Format& format) {
  const int exponent_bits = 16 - format.digits;
  const int bias = 1 - format.min_exponent;
  const uint16_t sign = std::signbit(value) ? 0x8000 : 0;
  const uint16_t infinity =
      static_cast<uint16_t>(((1 << exponent_bits) - 1) << (format.digits - 1));
  if (std::isnan(value)) return infinity | (1 << (format.digits - 2));
  value = std::fabs(value);
  int exponent = value > 0 && std::isfinite(value) ? std::ilogb(value) : format.min_exponent;
  if (exponent < format.min_exponent) exponent = format.min_exponent;
  const double ulp = std::ldexp(1.0, exponent - format.digits + 1);
  const double rounded = std::nearbyint(value / ulp) * ulp;
  if (rounded > format.largest) return sign | infinity;
  const double significand = rounded / ulp;
  const double hidden = std::ldexp(1.0, format.digits - 1);
  if (significand < hidden) return sign | static_cast<uint16_t>(significand);
  // A significand that rounded up to 2^digits carries into the exponent by itself.
  const int biased = exponent + bias - 1;
  return sign |
         static_cast<uint16_t>((biased << (format.digits - 1)) + static_cast<int>(significand));
}

double decode_once(uint16_t bits, const Format& format) {
  const int mantissa_bits = format.digits - 1;
  const int exponent_mask = (1 << (16 - format.digits)) - 1;
  const int exponent = (bits >> mantissa_bits) & exponent_mask;
  const int mantissa = bits & ((1 << mantissa_bits) - 1);
  double value;
  if (exponent == exponent_mask) {
    value = mantissa ? std::nan("") : std::numeric_limits<double>::infinity();
  } else if (exponent == 0) {
    value = std::ldexp(mantissa, format.min_exponent - mantissa_bits);
  } else {
    value = std::ldexp(mantissa + (1 << mantissa_bits),
                       exponent - 1 + format.min_exponent - mantissa_bits);
  }
  return bits & 0x8000 ? -value : value;
}

double decode(uint16_t bits, const Format& format) {
  static const auto table_of = [](Type type) {
    std::vector<double> table(1 << 16);
    for (int i = 0; i < 1 << 16; ++i) table[i] = decode_once(i, format_of(type));
    return table;
  };
  static const std::vector<double> half = table_of(Type::kFloat16);
  static const std::vector<double> bfloat = table_of(Type::kBFloat16);
  return (format.digits == 11 ? half : bfloat)[bits];
}

}  // namespace

const char* name_of(Type type) { return format_of(type).name; }
int64_t size_of(Type type) { return format_of(type).size; }
bool holds_doubles(Type type) { return type == Type::kFloat64 || type == Type::kInt64; }

double rounded(Type type, double value) {
  if (holds_doubles(type)) return value;
  if (type == Type::kFloat32) return static_cast<float>(value);
  return decode(encode(value, format_of(type)), format_of(type));
}

Tensor::Tensor(Type type, std::vector<int64_t> shape, int64_t shift)
    : type(type), shape(std::move(shape)) {
  char* block = static_cast<char*>(std::malloc((shift + size()) * size_of(type)));
  block_ = std::shared_ptr<void>(block, std::free);
  data = block + shift * size_of(type);
  if (size() > 0) std::memset(data, 0, size() * size_of(type));
}

Tensor Tensor::copy() const {
  const auto shift = (static_cast<char*>(data) - static_cast<char*>(block_.get())) / size_of(type);
  Tensor tensor(type, shape, shift);
  if (size() > 0) std::memcpy(tensor.data, data, size() * size_of(type));
  return tensor;
}

int64_t Tensor::size() const {
  int64_t product = 1;
  for (const int64_t d : shape) product *= d;
  return product;
}

double Tensor::get(int64_t i) const {
  switch (type) {
    case Type::kFloat32:
      return static_cast<const float*>(data)[i];
    case Type::kFloat64:
    case Type::kInt64:
      return static_cast<const double*>(data)[i];
    default:
      return decode(static_cast<const uint16_t*>(data)[i], format_of(type));
  }
}

void Tensor::set(int64_t i, double value) {
  switch (type) {
    case Type::kFloat32:
      static_cast<float*>(data)[i] = static_cast<float>(value);
      return;
    case Type::kFloat64:
    case Type::kInt64:
      static_cast<double*>(data)[i] = value;
      return;
    default:
      static_cast<uint16_t*>(data)[i] = encode(value, format_of(type));
  }
}

void Tensor::fill(double value) {
  for (int64_t i = 0; i < size(); ++i) set(i, value);
}

std::string Tensor::bytes() const {
  return size() == 0 ? std::string()
                     : std::string(static_cast<const char*>(data), size() * size_of(type));
}

Tensor settings(double eps, double momentum) {
  Tensor tensor(Type::kInt64, {2});
  tensor.set(0, eps);
  tensor.set(1, momentum);
  return tensor;
}

uint64_t Random::next() {  // splitmix64
  uint64_t z = (state_ += 0x9e3779b97f4a7c15u);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

double Random::uniform() { return static_cast<double>(next() >> 11) * 0x1p-53; }

double Random::normal() {
  double sum = -2;
  for (int i = 0; i < 4; ++i) sum += uniform();
  return sum * std::sqrt(3.0);
}

}  // namespace bn3d_test
