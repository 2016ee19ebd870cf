// Malformed calls, each of which the library has to refuse with a text that says what is wrong.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "library.h"

namespace bn3d_test {

struct BadCall {
  std::string name;
  std::function<void(const Library&)> call;
  std::string text;  // that the error has to contain

  // Empty if the library refuses the call as it should.
  std::string problem(const Library& library) const;
};

std::vector<BadCall> bad_calls();

}  // namespace bn3d_test
