// What driver.cc asks libgraph.cc for, beside the engine's own interface.
#ifndef FAKE_CANN_LIBGRAPH_H_
#define FAKE_CANN_LIBGRAPH_H_

#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "graph/operator_reg.h"

namespace fake_cann {

struct OpType {
  std::function<ge::Operator(const ge::AscendString&)> create;
  std::function<ge::graphStatus(ge::Operator&)> verify, infer;
};

using Declared = std::vector<std::pair<std::string, std::string>>;  // name, dtypes

std::map<std::string, OpType>& OpTypes();
std::vector<std::string>& Errors();
Declared& Inputs();   // of the operator created last
Declared& Outputs();  // of the operator created last

}  // namespace fake_cann

#endif  // FAKE_CANN_LIBGRAPH_H_
