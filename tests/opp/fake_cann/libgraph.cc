#include "libgraph.h"

#include <cstdarg>
#include <cstdio>

namespace fake_cann {

std::map<std::string, OpType>& OpTypes() {
  static std::map<std::string, OpType> types;
  return types;
}

std::vector<std::string>& Errors() {
  static std::vector<std::string> errors;
  return errors;
}

Declared& Inputs() {
  static Declared inputs;
  return inputs;
}

Declared& Outputs() {
  static Declared outputs;
  return outputs;
}

}  // namespace fake_cann

namespace ge {

int32_t ReportUserDefinedErrMsg(const char* error_code, const char* format, ...)
    __attribute__((format(printf, 2, 3)));

int32_t ReportUserDefinedErrMsg(const char* error_code, const char* format, ...) {
  char text[1024];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof(text), format, arguments);
  va_end(arguments);
  fake_cann::Errors().push_back(std::string(error_code) + " " + text);
  return 0;
}

AscendString::AscendString(const char* const text) : name_(std::make_shared<std::string>(text)) {}
const char* AscendString::GetString() const { return name_->c_str(); }

class ShapeImpl {
 public:
  std::vector<int64_t> dims;
};

Shape::Shape(const std::vector<int64_t>& dims) : impl_(std::make_shared<ShapeImpl>()) {
  impl_->dims = dims;
}
std::vector<int64_t> Shape::GetDims() const { return impl_->dims; }

class TensorDescImpl {
 public:
  Shape shape{std::vector<int64_t>{}};
  Shape origin_shape{std::vector<int64_t>{}};
  Format format = FORMAT_ND;
  Format origin_format = FORMAT_ND;
  DataType dtype = DT_FLOAT;
  std::vector<std::pair<int64_t, int64_t>> ranges;
};

TensorDesc::TensorDesc() : impl(std::make_shared<TensorDescImpl>()) {}
TensorDesc::TensorDesc(const TensorDesc& other)
    : impl(std::make_shared<TensorDescImpl>(*other.impl)) {}
Shape TensorDesc::GetShape() const { return impl->shape; }
Shape TensorDesc::GetOriginShape() const { return impl->origin_shape; }
Format TensorDesc::GetFormat() const { return impl->format; }
Format TensorDesc::GetOriginFormat() const { return impl->origin_format; }
DataType TensorDesc::GetDataType() const { return impl->dtype; }
void TensorDesc::SetShape(const Shape& shape) { impl->shape = shape; }
void TensorDesc::SetOriginShape(const Shape& shape) { impl->origin_shape = shape; }
void TensorDesc::SetFormat(Format format) { impl->format = format; }
void TensorDesc::SetOriginFormat(Format format) { impl->origin_format = format; }
void TensorDesc::SetDataType(DataType dtype) { impl->dtype = dtype; }

graphStatus TensorDesc::GetShapeRange(std::vector<std::pair<int64_t, int64_t>>& ranges) const {
  ranges = impl->ranges;
  return GRAPH_SUCCESS;
}
graphStatus TensorDesc::SetShapeRange(const std::vector<std::pair<int64_t, int64_t>>& ranges) {
  impl->ranges = ranges;
  return GRAPH_SUCCESS;
}

class OperatorImpl {
 public:
  std::map<std::string, TensorDesc*> inputs, outputs;
};

namespace {

TensorDesc Find(const std::map<std::string, TensorDesc*>& descs, const char* name) {
  const auto found = descs.find(name);
  return found == descs.end() ? TensorDesc() : TensorDesc(*found->second);
}

graphStatus Put(std::map<std::string, TensorDesc*>* descs, const char* name,
                const TensorDesc& desc) {
  if (descs->count(name) == 0) return GRAPH_FAILED;  // not declared by REG_OP
  (*descs)[name] = new TensorDesc(desc);             // the process is short
  return GRAPH_SUCCESS;
}

}  // namespace

Operator::Operator(const AscendString&, const AscendString&)
    : operator_impl_(std::make_shared<OperatorImpl>()) {
  fake_cann::Inputs().clear();
  fake_cann::Outputs().clear();
}

void Operator::InputRegister(const char* name, const char* dtypes) {
  operator_impl_->inputs[name] = new TensorDesc();
  fake_cann::Inputs().emplace_back(name, dtypes);
}
void Operator::OutputRegister(const char* name, const char* dtypes) {
  operator_impl_->outputs[name] = new TensorDesc();
  fake_cann::Outputs().emplace_back(name, dtypes);
}
TensorDesc Operator::GetInputDescByName(const char* name) const {
  return Find(operator_impl_->inputs, name);
}
TensorDesc Operator::GetOutputDescByName(const char* name) const {
  return Find(operator_impl_->outputs, name);
}
graphStatus Operator::UpdateInputDesc(const char* name, const TensorDesc& desc) {
  return Put(&operator_impl_->inputs, name, desc);
}
graphStatus Operator::UpdateOutputDesc(const char* name, const TensorDesc& desc) {
  return Put(&operator_impl_->outputs, name, desc);
}

OperatorCreatorRegister::OperatorCreatorRegister(
    const char* const type, const std::function<Operator(const AscendString&)>& creator) {
  fake_cann::OpTypes()[type].create = creator;
}
InferShapeFuncRegister::InferShapeFuncRegister(const char* const type,
                                               const std::function<graphStatus(Operator&)>& infer) {
  fake_cann::OpTypes()[type].infer = infer;
}
VerifyFuncRegister::VerifyFuncRegister(const char* const type,
                                       const std::function<graphStatus(Operator&)>& verify) {
  fake_cann::OpTypes()[type].verify = verify;
}

}  // namespace ge
