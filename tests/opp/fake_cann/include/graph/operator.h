#ifndef FAKE_CANN_GRAPH_OPERATOR_H_
#define FAKE_CANN_GRAPH_OPERATOR_H_

#include <memory>

#include "graph/tensor.h"
#include "graph/types.h"

namespace ge {

class OperatorImpl;
class Operator {
 public:
  Operator(const AscendString& name, const AscendString& type);
  virtual ~Operator() = default;

  TensorDesc GetInputDescByName(const char* name) const;
  TensorDesc GetOutputDescByName(const char* name) const;
  graphStatus UpdateInputDesc(const char* name, const TensorDesc& desc);
  graphStatus UpdateOutputDesc(const char* name, const TensorDesc& desc);

 protected:
  void InputRegister(const char* name, const char* dtypes);
  void OutputRegister(const char* name, const char* dtypes);

 private:
  std::shared_ptr<OperatorImpl> operator_impl_;
};

}  // namespace ge

#endif  // FAKE_CANN_GRAPH_OPERATOR_H_
