// The entry points and calls of them with made-up data.
#pragma once

#include <string>
#include <vector>

#include "library.h"

namespace bn3d_test {

// Each letter is a tensor. Inputs: x, d (dy): volumes; g, b, m, V: gamma, beta, a mean, a variance;
// v: any value a channel; s: settings; S: saved. Outputs: y: volume; c: one value a channel of the
// dtype of gamma, w: float32 or float64; R: saved, W: the same as float64.
struct EntryPoint {
  const char* name;
  std::string inputs, outputs;
};

const std::vector<EntryPoint>& entry_points();

// kMasked: a background of one value, where no gradient arrives. kSubnormal: below the normal
// numbers of each dtype, in every other channel of volumes and in the other ones of vectors. kSteep
// and kFlat: gamma/deviation is too large and too small for float32.
enum class Data {
  kOrdinary,
  kFarFromZero,
  kConstant,
  kMasked,
  kTiny,
  kHuge,
  kSpecial,
  kSubnormal,
  kSteep,
  kFlat
};
constexpr Data kAllData[] = {Data::kOrdinary, Data::kFarFromZero, Data::kConstant, Data::kMasked,
                             Data::kTiny,     Data::kHuge,        Data::kSpecial,  Data::kSubnormal,
                             Data::kSteep,    Data::kFlat};

struct Case {
  const EntryPoint* entry;
  Type type, vectors;  // of volumes and of what is one value a channel
  Shape shape;
  Data data;
  double eps, momentum;
  int64_t shift;  // alignment of the volumes, in elements
  uint64_t seed;

  std::string text() const;
};

// The tensors of a call.
struct Arguments {
  std::vector<Tensor> tensors;
  Arguments copy() const;
  std::vector<Tensor*> pointers();
  // What the call writes: the outputs, and moving statistics where it updates them.
  std::vector<Tensor*> written(const EntryPoint&);
};

Arguments arguments(const Case&);

}  // namespace bn3d_test
