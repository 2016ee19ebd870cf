// What the entry points have to compute, in plain loops of double, and how far from it they may
// be. Formulas: python/bn3d/reference.py.
#pragma once

#include <vector>

#include "tensor.h"

namespace bn3d_test {

// Values before they are rounded to the type of the output, and how far from them a result may
// be, also before that.
struct Expected {
  std::vector<double> values, tolerances;
};

// Inputs and outputs in the order of the entry point `name`; the outputs' values are not read.
// Returns one Expected for each output and, for Bn3dForwardTraining, then for the moving mean and
// the moving variance. Has to be called before the library: that one updates the moving
// statistics.
std::vector<Expected> judge(const std::string& name, const std::vector<Tensor*>& tensors);

}  // namespace bn3d_test
