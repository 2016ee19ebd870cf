#ifndef FAKE_CANN_GRAPH_OPERATOR_REG_H_
#define FAKE_CANN_GRAPH_OPERATOR_REG_H_

#include <functional>

#include "graph/operator.h"

namespace ge {

class OperatorCreatorRegister {
 public:
  OperatorCreatorRegister(const char* const type,
                          const std::function<Operator(const AscendString&)>& creator);
};

class InferShapeFuncRegister {
 public:
  InferShapeFuncRegister(const char* const type,
                         const std::function<graphStatus(Operator&)>& infer);
};

class VerifyFuncRegister {
 public:
  VerifyFuncRegister(const char* const type, const std::function<graphStatus(Operator&)>& verify);
};

}  // namespace ge

// REG_OP(T).INPUT(x, dtypes).OUTPUT(y, dtypes).OP_END_FACTORY_REG(T) defines ge::op::T, whose
// constructor declares the inputs and outputs in order, and registers it.
#define REG_OP(Type)                                                                \
  namespace op {                                                                    \
  class Type : public Operator {                                                    \
    Type& Input(const char* name, const char* dtypes) {                             \
      InputRegister(name, dtypes);                                                  \
      return *this;                                                                 \
    }                                                                               \
    Type& Output(const char* name, const char* dtypes) {                            \
      OutputRegister(name, dtypes);                                                 \
      return *this;                                                                 \
    }                                                                               \
    void End() {}                                                                   \
                                                                                    \
   public:                                                                          \
    explicit Type(const AscendString& name) : Operator(name, AscendString(#Type)) { \
      (*this)

#define INPUT(name, ...) Input(#name, #__VA_ARGS__)
#define OUTPUT(name, ...) Output(#name, #__VA_ARGS__)
#define OP_END_FACTORY_REG(Type)                                               \
  End();                                                                       \
  }                                                                            \
  }                                                                            \
  ;                                                                            \
  static const OperatorCreatorRegister register_##Type(                        \
      #Type, [](const AscendString& name) -> Operator { return Type(name); }); \
  }

#define IMPLEMT_VERIFIER(Type, function) static graphStatus function(op::Type op)
#define IMPLEMT_COMMON_INFERFUNC(function) static graphStatus function(Operator& op)
#define COMMON_INFER_FUNC_REG(Type, function) \
  static const InferShapeFuncRegister infer_##Type(#Type, [](Operator& op) { return function(op); })
#define VERIFY_FUNC_REG(Type, function)          \
  static const VerifyFuncRegister verify_##Type( \
      #Type, [](Operator& op) { return function(static_cast<op::Type&>(op)); })

#endif  // FAKE_CANN_GRAPH_OPERATOR_REG_H_
