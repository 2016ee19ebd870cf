#include "call.h"

#include <sstream>
#include <stdexcept>

namespace bn3d {

namespace {

std::string text_of(const Shape& shape) {
  std::ostringstream text;
  for (size_t d = 0; d < shape.size(); ++d) text << (d ? ", " : "(") << shape[d];
  return text.str() + (shape.size() == 1 ? ",)" : ")");
}

}  // namespace

Shape shape_of(int i, const int* ndims, int64_t* const* shapes) {
  return {shapes[i], shapes[i] + ndims[i]};
}

Call::Call(const char* op, int expected, int count, void** params, int* ndims, int64_t** shapes,
           const char** dtypes)
    : op_(op), params_(params), ndims_(ndims), shapes_(shapes), dtypes_(dtypes) {
  if (count != expected) {
    std::ostringstream text;
    text << "takes " << expected << " inputs and outputs, got " << count;
    fail(text.str());
  }
  if (!params || !ndims || !shapes || !dtypes) fail("got a null array");
}

Volume Call::volume(int i, const char* name) const {
  check(i, name);
  if (ndims_[i] < 2) fail(i, name, "must have the dimensions (N, C, ...)");
  Volume volume{shapes_[i][0], shapes_[i][1], 1, dtype(i, name)};
  for (int d = 2; d < ndims_[i]; ++d) volume.slab *= shapes_[i][d];
  return volume;
}

void* Call::same_as(int first, int i, const char* name) const {
  check(i, name);
  bool same = ndims_[i] == ndims_[first] && dtype(i, name) == dtype(first, "x");
  for (int d = 0; same && d < ndims_[i]; ++d) same = shapes_[i][d] == shapes_[first][d];
  if (!same) fail(i, name, "must have the shape and dtype of x");
  return params_[i];
}

ChannelVector Call::vector(int i, const char* name, const Volume& volume) const {
  check(i, name);
  if (ndims_[i] != 1 || shapes_[i][0] != volume.channels) {
    fail(i, name, "must have shape " + text_of({volume.channels}));
  }
  return {params_[i], dtype(i, name)};
}

double* Call::rows(int i, const char* name, const char* dtype, const Shape& shape) const {
  check(i, name);
  if (shape_of(i, ndims_, shapes_) != shape || std::string(dtypes_[i]) != dtype) {
    fail(i, name, std::string("must be ") + dtype + " " + text_of(shape));
  }
  return static_cast<double*>(params_[i]);
}

// What every tensor must be. Whether its memory is as large as its shape says cannot be checked.
void Call::check(int i, const char* name) const {
  if (dtypes_[i] == nullptr || (shapes_[i] == nullptr && ndims_[i] != 0)) {
    fail(std::string("'") + name + "' has a null shape or dtype");
  }
  if (ndims_[i] < 0) {
    fail(std::string("'") + name + "' must have a rank of 0 or more, got " +
         std::to_string(ndims_[i]));
  }
  int64_t bytes = sizeof(double);  // of one element at most
  bool empty = false;
  for (int d = 0; d < ndims_[i]; ++d) {
    const int64_t length = shapes_[i][d];
    if (length < 0) fail(i, name, "must have no negative dimension");
    empty = empty || length == 0;
    // An empty tensor's other dimensions are multiplied as well.
    if (length != 0 && __builtin_mul_overflow(bytes, length, &bytes)) {
      fail(i, name, "must have fewer than 2^63 bytes");
    }
  }
  if (!empty && params_[i] == nullptr) fail(i, name, "has no data");
}

DType Call::dtype(int i, const char* name) const {
  const std::string text = dtypes_[i];
  if (text == "float32") return DType::kFloat32;
  if (text == "float16") return DType::kFloat16;
  if (text == "bfloat16") return DType::kBFloat16;
  if (text == "float64") return DType::kFloat64;
  fail(i, name, "must be float32, float16, bfloat16 or float64");
}

void Call::fail(const std::string& text) const {
  throw std::invalid_argument(std::string(op_) + " " + text);
}

void Call::fail(int i, const char* name, const std::string& must) const {
  fail(std::string("'") + name + "' " + must + ", got " + dtypes_[i] + " " +
       text_of(shape_of(i, ndims_, shapes_)));
}

}  // namespace bn3d
