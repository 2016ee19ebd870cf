// The tensors of one call, checked as they are taken.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "batch_norm.h"

namespace bn3d {

using Shape = std::vector<int64_t>;

Shape shape_of(int i, const int* ndims, int64_t* const* shapes);

// What MindSpore hands over; `i` counts inputs, then outputs. Whatever does not fit throws
// std::invalid_argument with the operator's name, the tensor's, and what it should be.
class Call {
 public:
  Call(const char* op, int expected, int count, void** params, int* ndims, int64_t** shapes,
       const char** dtypes);

  Volume volume(int i, const char* name) const;

  // Data of a volume with the shape and dtype of tensor `first`.
  void* same_as(int first, int i, const char* name) const;

  ChannelVector vector(int i, const char* name, const Volume& volume) const;

  double* doubles(int i, const char* name, const Shape& shape) const {
    return rows(i, name, "float64", shape);
  }

  // Doubles whose bits travel as int64, since MindSpore's mixed precision casts what is floating.
  double* bits_of_doubles(int i, const char* name, const Shape& shape) const {
    return rows(i, name, "int64", shape);
  }

  void* data(int i) const { return params_[i]; }

 private:
  void check(int i, const char* name) const;
  DType dtype(int i, const char* name) const;
  double* rows(int i, const char* name, const char* dtype, const Shape& shape) const;
  [[noreturn]] void fail(const std::string& text) const;
  [[noreturn]] void fail(int i, const char* name, const std::string& must) const;

  const char* op_;
  void** params_;
  int* ndims_;
  int64_t** shapes_;
  const char** dtypes_;
};

}  // namespace bn3d
