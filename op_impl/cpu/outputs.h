// Shapes and dtypes of outputs, inferred from the inputs'.
#pragma once

#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "call.h"

namespace bn3d {

// MindSpore's TypeId, an enumeration over int: mindspore/core/include/mindapi/base/type_id.h among
// the headers in its wheel. The values are those of 2.7 to 2.10.
using TypeId = int;
constexpr TypeId kNumberTypeInt64 = 35;
constexpr TypeId kNumberTypeFloat64 = 44;

constexpr int kSavedRows = 4;  // mean, rstd, gamma, eps

// An output with the shape of an input.
struct Output {
  int input;
  TypeId type = 0;  // 0: that of the input
  int rows = 0;     // not 0: the shape is (rows, C), the input's (C,)
};

constexpr Output like(int input) { return {input}; }
constexpr Output rows_of_doubles(int rows, int input) { return {input, kNumberTypeFloat64, rows}; }
// The bits of doubles travel as int64.
constexpr Output rows_of_bits(int rows, int input) { return {input, kNumberTypeInt64, rows}; }

// MindSpore takes a vector of shapes or dtypes, or the only one.
template <typename T, size_t kOutputs>
using OneOrMore = std::conditional_t<kOutputs == 1, T, std::vector<T>>;

template <size_t kOutputs, typename Infer>
auto each(const Output (&outputs)[kOutputs], Infer infer) {
  using T = decltype(infer(outputs[0]));
  if constexpr (kOutputs == 1) {
    return infer(outputs[0]);
  } else {
    std::vector<T> all;
    for (const Output& output : outputs) all.push_back(infer(output));
    return all;
  }
}

template <size_t kOutputs>
OneOrMore<Shape, kOutputs> shapes_of(const char* op, const Output (&outputs)[kOutputs],
                                     const int* ndims, int64_t* const* shapes) {
  return each(outputs, [&](const Output& output) {
    const Shape shape = shape_of(output.input, ndims, shapes);
    if (output.rows == 0) return shape;
    if (shape.size() != 1) {
      throw std::invalid_argument(std::string(op) + " 'gamma' must have shape (C,)");
    }
    return Shape{output.rows, shape[0]};
  });
}

template <size_t kOutputs>
OneOrMore<TypeId, kOutputs> types_of(const Output (&outputs)[kOutputs],
                                     const std::vector<TypeId>& inputs) {
  return each(outputs, [&](const Output& output) {
    return output.type ? output.type : inputs[output.input];
  });
}

}  // namespace bn3d
