// Loads a prototype library as the graph engine does and answers one request a line:
//   TYPE                                     -> the declared inputs and outputs
//   TYPE NAME|FORMAT|DTYPE|DIMS[|RANGES] ... -> verify, infer and the outputs
// DIMS is "1,2,3", RANGES "1~4,2~2". Every answer is a line of JSON.
#include <dlfcn.h>

#include <iostream>
#include <sstream>

#include "libgraph.h"

namespace {

const std::map<std::string, ge::Format> kFormats = {
    {"ND", ge::FORMAT_ND},           {"NCHW", ge::FORMAT_NCHW},
    {"NCDHW", ge::FORMAT_NCDHW},     {"NDHWC", ge::FORMAT_NDHWC},
    {"NC1HWC0", ge::FORMAT_NC1HWC0}, {"NDC1HWC0", ge::FORMAT_NDC1HWC0}};
const std::map<std::string, ge::DataType> kDtypes = {
    {"float16", ge::DT_FLOAT16}, {"float32", ge::DT_FLOAT}, {"bfloat16", ge::DT_BF16},
    {"float64", ge::DT_DOUBLE},  {"int32", ge::DT_INT32},   {"int64", ge::DT_INT64}};

std::vector<std::string> Split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  std::stringstream stream(text);
  for (std::string part; std::getline(stream, part, separator);) parts.push_back(part);
  return parts;
}

template <typename Value>
std::string Name(const std::map<std::string, Value>& names, Value value) {
  for (const auto& entry : names) {
    if (entry.second == value) return entry.first;
  }
  return "?";
}

std::string Json(const std::string& text) {
  std::string quoted = "\"";
  for (const char c : text)
    quoted += (c == '"' || c == '\\') ? std::string("\\") + c : std::string(1, c);
  return quoted + "\"";
}

std::string Json(const ge::Shape& shape) {
  std::string text;
  for (const int64_t dim : shape.GetDims()) text += (text.empty() ? "" : ",") + std::to_string(dim);
  return "[" + text + "]";
}

std::string Json(const ge::TensorDesc& desc) {
  std::vector<std::pair<int64_t, int64_t>> ranges;
  (void)desc.GetShapeRange(ranges);
  std::string text;
  for (const auto& range : ranges) {
    text += (text.empty() ? "[" : ",[") + std::to_string(range.first) + "," +
            std::to_string(range.second) + "]";
  }
  return "{\"shape\":" + Json(desc.GetShape()) +
         ",\"origin_shape\":" + Json(desc.GetOriginShape()) +
         ",\"format\":" + Json(Name(kFormats, desc.GetFormat())) +
         ",\"origin_format\":" + Json(Name(kFormats, desc.GetOriginFormat())) +
         ",\"dtype\":" + Json(Name(kDtypes, desc.GetDataType())) + ",\"ranges\":[" + text + "]}";
}

std::string Json(const fake_cann::Declared& declared) {
  std::string text;
  for (const auto& tensor : declared) {
    text += (text.empty() ? "[" : ",[") + Json(tensor.first) + "," + Json(tensor.second) + "]";
  }
  return "[" + text + "]";
}

ge::TensorDesc Describe(const std::vector<std::string>& parts) {
  std::vector<int64_t> dims;
  for (const std::string& dim : Split(parts.at(3), ',')) dims.push_back(std::stoll(dim));
  ge::TensorDesc desc;
  desc.SetShape(ge::Shape(dims));
  desc.SetOriginShape(ge::Shape(dims));
  desc.SetFormat(kFormats.at(parts.at(1)));
  desc.SetOriginFormat(kFormats.at(parts.at(1)));
  desc.SetDataType(kDtypes.at(parts.at(2)));
  if (parts.size() > 4) {
    std::vector<std::pair<int64_t, int64_t>> ranges;
    for (const std::string& range : Split(parts[4], ',')) {
      const auto ends = Split(range, '~');
      ranges.emplace_back(std::stoll(ends.at(0)), std::stoll(ends.at(1)));
    }
    desc.SetShapeRange(ranges);
  }
  return desc;
}

std::string Answer(const std::string& request) {
  const auto words = Split(request, ' ');
  const fake_cann::OpType& type = fake_cann::OpTypes().at(words.at(0));
  ge::Operator op = type.create(ge::AscendString("node"));
  const fake_cann::Declared outputs = fake_cann::Outputs();
  if (words.size() == 1) {
    return "{\"inputs\":" + Json(fake_cann::Inputs()) + ",\"outputs\":" + Json(outputs) + "}";
  }
  for (size_t i = 1; i < words.size(); ++i) {
    const auto parts = Split(words[i], '|');
    if (op.UpdateInputDesc(parts.at(0).c_str(), Describe(parts)) != ge::GRAPH_SUCCESS) {
      throw std::runtime_error("no input " + parts.at(0));
    }
  }
  fake_cann::Errors().clear();
  const bool verified = type.verify(op) == ge::GRAPH_SUCCESS;
  const std::vector<std::string> errors = fake_cann::Errors();
  const bool inferred = type.infer(op) == ge::GRAPH_SUCCESS;
  std::string described, reported;
  for (const auto& output : outputs) {
    described += (described.empty() ? "" : ",") + Json(output.first) + ":" +
                 Json(op.GetOutputDescByName(output.first.c_str()));
  }
  for (const auto& error : errors) reported += (reported.empty() ? "" : ",") + Json(error);
  return std::string("{\"verified\":") + (verified ? "true" : "false") +
         ",\"inferred\":" + (inferred ? "true" : "false") + ",\"errors\":[" + reported +
         "],\"outputs\":{" + described + "}}";
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2 || dlopen(argv[1], RTLD_NOW | RTLD_GLOBAL) == nullptr) {
    std::cerr << (argc == 2 ? dlerror() : "usage: driver LIBRARY") << "\n";
    return 1;
  }
  for (std::string line; std::getline(std::cin, line);) std::cout << Answer(line) << std::endl;
  return 0;
}
