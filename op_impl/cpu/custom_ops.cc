// Entry points for mindspore.ops.Custom(func_type="aot") on a CPU.
//
// MindSpore calls F(nparam, params, ndims, shapes, dtypes, stream, extra) with the inputs and
// then the outputs; FInferShape and FInferType give the outputs' shapes and dtypes: a vector of
// them, or the only one. It turns an exception's what() into a RuntimeError in Python. No
// std::string crosses the boundary: MindSpore's wheels use the old ABI of it, and `extra`, whose
// functions take strings, is never touched.
#include <cstdint>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "batch_norm.h"

#define BN3D_EXPORT extern "C" __attribute__((visibility("default")))

namespace {

using bn3d::ChannelVector;
using bn3d::DType;
using bn3d::Volume;
using Shape = std::vector<int64_t>;
using Shapes = std::vector<Shape>;
// MindSpore's TypeId of the inputs or outputs, an enumeration over int.
using Types = std::vector<int>;
constexpr int kFloat64Type = 44;  // in 2.7 to 2.10

Shape shape_of(int i, const int* ndims, int64_t* const* shapes) {
  return {shapes[i], shapes[i] + ndims[i]};
}

std::string text_of(const Shape& shape) {
  std::ostringstream text;
  for (size_t d = 0; d < shape.size(); ++d) text << (d ? ", " : "(") << shape[d];
  return text.str() + (shape.size() == 1 ? ",)" : ")");
}

// The arguments of one call, checked as they are taken.
class Call {
 public:
  Call(const char* op, int expected, int count, void** params, int* ndims, int64_t** shapes,
       const char** dtypes)
      : op_(op), params_(params), ndims_(ndims), shapes_(shapes), dtypes_(dtypes) {
    if (count != expected) {
      std::ostringstream text;
      text << "takes " << expected << " inputs and outputs, got " << count;
      fail(text.str());
    }
    if (!params || !ndims || !shapes || !dtypes) fail("got a null array");
  }

  Volume volume(int i, const char* name) const {
    check(i, name);
    if (ndims_[i] < 2) fail(i, name, "must have the dimensions (N, C, ...)");
    Volume volume{shapes_[i][0], shapes_[i][1], 1, dtype(i, name)};
    for (int d = 2; d < ndims_[i]; ++d) volume.slab *= shapes_[i][d];
    return volume;
  }

  void* same_as(int first, int i, const char* name) const {
    check(i, name);
    bool same = ndims_[i] == ndims_[first] && dtype(i, name) == dtype(first, "x");
    for (int d = 0; same && d < ndims_[i]; ++d) same = shapes_[i][d] == shapes_[first][d];
    if (!same) fail(i, name, "must have the shape and dtype of x");
    return params_[i];
  }

  ChannelVector vector(int i, const char* name, const Volume& volume) const {
    check(i, name);
    if (ndims_[i] != 1 || shapes_[i][0] != volume.channels) {
      fail(i, name, "must have shape " + text_of({volume.channels}));
    }
    return {params_[i], dtype(i, name)};
  }

  // Doubles in the guise of int64, since MindSpore's mixed precision casts what is floating.
  double* doubles(int i, const char* name, const Shape& shape) const {
    check(i, name);
    if (shape_of(i, ndims_, shapes_) != shape || std::string(dtypes_[i]) != "int64") {
      fail(i, name, "must be int64 " + text_of(shape));
    }
    return static_cast<double*>(params_[i]);
  }

  void* data(int i) const { return params_[i]; }

 private:
  // What every tensor has to be. That its memory is as large as its shape says cannot be checked.
  void check(int i, const char* name) const {
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

  DType dtype(int i, const char* name) const {
    const std::string text = dtypes_[i];
    if (text == "float32") return DType::kFloat32;
    if (text == "float16") return DType::kFloat16;
    if (text == "bfloat16") return DType::kBFloat16;
    if (text == "float64") return DType::kFloat64;
    fail(i, name, "must be float32, float16, bfloat16 or float64");
  }

  [[noreturn]] void fail(const std::string& text) const {
    throw std::invalid_argument(std::string(op_) + " " + text);
  }

  [[noreturn]] void fail(int i, const char* name, const std::string& must) const {
    fail(std::string("'") + name + "' " + must + ", got " + dtypes_[i] + " " +
         text_of(shape_of(i, ndims_, shapes_)));
  }

  const char* op_;
  void** params_;
  int* ndims_;
  int64_t** shapes_;
  const char** dtypes_;
};

// Inputs first ... first + 4: gamma, beta, moving_mean, moving_variance, settings (eps, momentum).
bn3d::Parameters parameters(const Call& call, int first, const Volume& volume) {
  const double* settings = call.doubles(first + 4, "settings", {2});
  return {call.vector(first, "gamma", volume),
          call.vector(first + 1, "beta", volume),
          call.vector(first + 2, "moving_mean", volume),
          call.vector(first + 3, "moving_variance", volume),
          settings[0],
          settings[1]};
}

bn3d::Saved saved(const Call& call, int i, const Volume& volume) {
  double* rows = call.doubles(i, "saved", {3, volume.channels});
  return {rows, rows + volume.channels, rows + 2 * volume.channels};
}

}  // namespace

#define BN3D_OP(name)                                                          \
  BN3D_EXPORT int name(int count, void** params, int* ndims, int64_t** shapes, \
                       const char** dtypes, void* /*stream*/, void* /*extra*/)
#define BN3D_CALL(name, expected) Call(#name, expected, count, params, ndims, shapes, dtypes)
#define BN3D_INFER_SHAPE(result, name) \
  BN3D_EXPORT result name##InferShape(int* ndims, int64_t** shapes, void* /*extra*/)
#define BN3D_INFER_TYPE(result, name) \
  BN3D_EXPORT result name##InferType(Types types, void* /*extra*/)

// The four operators: signatures as in python/bn3d/operators.py.

BN3D_OP(Bn3dReduce) {
  const Call call = BN3D_CALL(Bn3dReduce, 4);
  const Volume volume = call.volume(0, "x");
  bn3d::reduce(volume, call.data(0), call.vector(1, "shift", volume), call.vector(2, "sum", volume),
               call.vector(3, "square_sum", volume));
  return 0;
}

BN3D_INFER_SHAPE(Shapes, Bn3dReduce) { return Shapes(2, shape_of(1, ndims, shapes)); }
BN3D_INFER_TYPE(Types, Bn3dReduce) { return {types[1], types[1]}; }

BN3D_OP(Bn3dApply) {
  const Call call = BN3D_CALL(Bn3dApply, 5);
  const Volume volume = call.volume(0, "x");
  bn3d::apply(volume, call.data(0), call.vector(1, "mean", volume),
              call.vector(2, "multiplier", volume), call.vector(3, "offset", volume),
              call.same_as(0, 4, "y"));
  return 0;
}

BN3D_INFER_SHAPE(Shape, Bn3dApply) { return shape_of(0, ndims, shapes); }
BN3D_INFER_TYPE(int, Bn3dApply) { return types[0]; }

BN3D_OP(Bn3dGradReduce) {
  const Call call = BN3D_CALL(Bn3dGradReduce, 5);
  const Volume volume = call.volume(1, "x");
  bn3d::grad_reduce(volume, call.same_as(1, 0, "dy"), call.data(1), call.vector(2, "mean", volume),
                    call.vector(3, "sum_dy", volume), call.vector(4, "sum_dy_centered", volume));
  return 0;
}

BN3D_INFER_SHAPE(Shapes, Bn3dGradReduce) { return Shapes(2, shape_of(2, ndims, shapes)); }
BN3D_INFER_TYPE(Types, Bn3dGradReduce) { return {types[2], types[2]}; }

BN3D_OP(Bn3dGradApply) {
  const Call call = BN3D_CALL(Bn3dGradApply, 7);
  const Volume volume = call.volume(1, "x");
  bn3d::grad_apply(volume, call.same_as(1, 0, "dy"), call.data(1), call.vector(2, "mean", volume),
                   call.vector(3, "a", volume), call.vector(4, "b", volume),
                   call.vector(5, "c", volume), call.same_as(1, 6, "dx"));
  return 0;
}

BN3D_INFER_SHAPE(Shape, Bn3dGradApply) { return shape_of(1, ndims, shapes); }
BN3D_INFER_TYPE(int, Bn3dGradApply) { return types[1]; }

// Fused forms of them: signatures as in python/bn3d/backends/native.py.

BN3D_OP(Bn3dForwardTraining) {
  const Call call = BN3D_CALL(Bn3dForwardTraining, 8);
  const Volume volume = call.volume(0, "x");
  bn3d::forward_training(volume, call.data(0), parameters(call, 1, volume), call.same_as(0, 6, "y"),
                         saved(call, 7, volume));
  return 0;
}

BN3D_INFER_SHAPE(Shapes, Bn3dForwardTraining) {
  if (ndims[1] != 1)
    throw std::invalid_argument("Bn3dForwardTraining 'gamma' must have shape (C,)");
  return {shape_of(0, ndims, shapes), {3, shapes[1][0]}};
}

BN3D_INFER_TYPE(Types, Bn3dForwardTraining) { return {types[0], types[5]}; }

BN3D_OP(Bn3dGradientTraining) {
  const Call call = BN3D_CALL(Bn3dGradientTraining, 8);
  const Volume volume = call.volume(1, "x");
  bn3d::gradient_training(volume, call.same_as(1, 0, "dy"), call.data(1),
                          call.vector(2, "gamma", volume), saved(call, 3, volume),
                          call.same_as(1, 4, "dx"), call.vector(5, "dgamma", volume),
                          call.vector(6, "dbeta", volume), call.vector(7, "eps", volume));
  return 0;
}

BN3D_INFER_SHAPE(Shapes, Bn3dGradientTraining) {
  const auto channels = shape_of(2, ndims, shapes);
  return {shape_of(1, ndims, shapes), channels, channels, channels};
}

BN3D_INFER_TYPE(Types, Bn3dGradientTraining) {
  return {types[1], types[2], types[2], kFloat64Type};
}

BN3D_OP(Bn3dForwardInference) {
  const Call call = BN3D_CALL(Bn3dForwardInference, 7);
  const Volume volume = call.volume(0, "x");
  bn3d::forward_inference(volume, call.data(0), parameters(call, 1, volume),
                          call.same_as(0, 6, "y"));
  return 0;
}

BN3D_INFER_SHAPE(Shape, Bn3dForwardInference) { return shape_of(0, ndims, shapes); }
BN3D_INFER_TYPE(int, Bn3dForwardInference) { return types[0]; }

BN3D_OP(Bn3dGradientInference) {
  const Call call = BN3D_CALL(Bn3dGradientInference, 11);
  const Volume volume = call.volume(1, "x");
  bn3d::gradient_inference(volume, call.same_as(1, 0, "dy"), call.data(1),
                           parameters(call, 2, volume), call.same_as(1, 7, "dx"),
                           call.vector(8, "dgamma", volume), call.vector(9, "dbeta", volume),
                           call.vector(10, "rstd", volume));
  return 0;
}

BN3D_INFER_SHAPE(Shapes, Bn3dGradientInference) {
  const auto channels = shape_of(2, ndims, shapes);
  return {shape_of(1, ndims, shapes), channels, channels, channels};
}

BN3D_INFER_TYPE(Types, Bn3dGradientInference) {
  return {types[1], types[2], types[2], kFloat64Type};
}

// What Python asks through ctypes.

BN3D_EXPORT void bn3d_set_threads(int threads) { bn3d::set_threads(threads); }

BN3D_EXPORT int bn3d_usable_threads() { return bn3d::usable_threads(); }

BN3D_EXPORT const char* bn3d_instruction_set() { return bn3d::instruction_set(); }

BN3D_EXPORT const char* bn3d_version() { return BN3D_VERSION; }
