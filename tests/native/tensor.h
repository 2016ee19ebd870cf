// A tensor as the native library gets it, whose values the tests read and write as double.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

namespace bn3d_test {

enum class Type { kFloat32, kFloat16, kBFloat16, kFloat64, kInt64 };
constexpr Type kFloatingTypes[] = {Type::kFloat32, Type::kFloat16, Type::kBFloat16, Type::kFloat64};

const char* name_of(Type);
int64_t size_of(Type);

// kFloat64, or kInt64: MindSpore hands over doubles in its guise.
bool holds_doubles(Type);

// The value that this type has for a double.
double rounded(Type, double);

struct Tensor {
  // `shift` elements of room before the data, to vary its alignment.
  Tensor(Type type, std::vector<int64_t> shape, int64_t shift = 0);

  Tensor copy() const;  // with a block of its own

  int64_t size() const;
  double get(int64_t i) const;
  void set(int64_t i, double value);
  void fill(double value);
  std::string bytes() const;

  Type type;
  std::vector<int64_t> shape;
  void* data;  // a block of its own without spare bytes, so that AddressSanitizer sees overruns

 private:
  std::shared_ptr<void> block_;
};

Tensor settings(double eps, double momentum);

// The same numbers on every platform, unlike the standard library's distributions.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t next();
  double uniform();  // [0, 1)
  double normal();   // nearly: a sum of four uniform numbers
 private:
  uint64_t state_;
};

}  // namespace bn3d_test
