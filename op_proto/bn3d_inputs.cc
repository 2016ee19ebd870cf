#include "bn3d_inputs.h"

#include <cstddef>
#include <cstdio>

#include "graph/tensor.h"

namespace ge {
// CANN 8 puts this text into its error report (aclGetRecentErrMsg, MindSpore's exception).
// Weak and declared here: earlier releases have neither the function nor its header.
int32_t ReportUserDefinedErrMsg(const char* error_code, const char* format, ...)
    __attribute__((weak));
}  // namespace ge

namespace bn3d {
namespace {

constexpr int64_t kUnknownDim = -1;
constexpr int64_t kUnknownRank = -2;
constexpr int64_t kC0 = 16;  // for float16, bfloat16 and float32 on every Ascend 910
constexpr const char* kErrorCode = "EU3003";  // EU: user defined

bool IsUnknownRank(const std::vector<int64_t>& dims) {
  return dims.size() == 1 && dims[0] == kUnknownRank;
}

std::string Text(const std::vector<int64_t>& dims) {
  if (IsUnknownRank(dims)) return "of unknown rank";
  std::string text = "(";
  for (size_t i = 0; i < dims.size(); ++i) {
    text += (i == 0 ? "" : ", ") + std::to_string(dims[i]);
  }
  return text + ")";
}

std::string Text(ge::Format format) {
  switch (format) {
    case ge::FORMAT_ND:
      return "ND";
    case ge::FORMAT_NCHW:
      return "NCHW";
    case ge::FORMAT_NHWC:
      return "NHWC";
    case ge::FORMAT_NC1HWC0:
      return "NC1HWC0";
    case ge::FORMAT_NCDHW:
      return "NCDHW";
    case ge::FORMAT_NDHWC:
      return "NDHWC";
    case ge::FORMAT_NDC1HWC0:
      return "NDC1HWC0";
    default:
      return "number " + std::to_string(static_cast<int>(format));
  }
}

std::string Text(ge::DataType dtype) {
  switch (dtype) {
    case ge::DT_FLOAT:
      return "float32";
    case ge::DT_FLOAT16:
      return "float16";
    case ge::DT_BF16:
      return "bfloat16";
    case ge::DT_DOUBLE:
      return "float64";
    case ge::DT_INT8:
      return "int8";
    case ge::DT_INT32:
      return "int32";
    case ge::DT_INT64:
      return "int64";
    default:
      return "number " + std::to_string(static_cast<int>(dtype));
  }
}

bool HasInvalidDim(const std::vector<int64_t>& dims) {
  if (IsUnknownRank(dims)) return false;
  for (int64_t dim : dims) {
    if (dim < kUnknownDim) return true;
  }
  return false;
}

}  // namespace

Inputs::Inputs(const ge::Operator& op, const char* op_type, const std::vector<const char*>& volumes,
               const std::vector<const char*>& vectors)
    : op_type_(op_type) {
  for (const char* name : volumes) valid_ = valid_ && AddVolume(op, name);
  for (const char* name : vectors) valid_ = valid_ && AddVector(op, name);
  valid_ = valid_ && MatchChannels(volumes.front());
}

bool Inputs::AddVolume(const ge::Operator& op, const char* name) {
  const ge::TensorDesc desc = op.GetInputDescByName(name);
  const Dims dims = desc.GetShape().GetDims();
  const ge::Format format = desc.GetFormat();
  const ge::DataType dtype = desc.GetDataType();
  const std::string input(name);
  if (dtype != ge::DT_FLOAT16 && dtype != ge::DT_FLOAT && dtype != ge::DT_BF16) {
    return Fail(input + " must be float16, float32 or bfloat16, got dtype " + Text(dtype));
  }
  if (format != ge::FORMAT_ND && format != ge::FORMAT_NCDHW && format != ge::FORMAT_NDC1HWC0) {
    return Fail(input + " must be in format ND, NCDHW or NDC1HWC0, got " + Text(format));
  }
  if (HasInvalidDim(dims)) return Fail(input + " has an invalid shape " + Text(dims));
  if (!IsUnknownRank(dims)) {
    if (format != ge::FORMAT_NDC1HWC0 && dims.size() != 5) {
      return Fail(input + " must have 5 dimensions (N, C, D, H, W), got shape " + Text(dims));
    }
    if (format == ge::FORMAT_NDC1HWC0 && dims.size() != 6) {
      return Fail(input + " must have 6 dimensions (N, D, C1, H, W, C0) in NDC1HWC0, got shape " +
                  Text(dims));
    }
    if (format == ge::FORMAT_NDC1HWC0 && dims[5] != kC0 && dims[5] != kUnknownDim) {
      return Fail(input + " must have C0 = 16 in NDC1HWC0, got shape " + Text(dims));
    }
  }

  if (first_volume_ == nullptr) {
    first_volume_ = name;
    format_ = format;
    dtype_ = dtype;
    volume_ = dims;
    if (desc.GetShapeRange(ranges_) != ge::GRAPH_SUCCESS) ranges_.clear();
    return true;
  }
  const std::string both = std::string(first_volume_) + " and " + name + " must have the same ";
  if (dtype != dtype_) return Fail(both + "dtype, got " + Text(dtype_) + " and " + Text(dtype));
  if ((format == ge::FORMAT_NDC1HWC0) != (format_ == ge::FORMAT_NDC1HWC0)) {
    return Fail(both + "format, got " + Text(format_) + " and " + Text(format));
  }
  if (format_ == ge::FORMAT_ND) format_ = format;  // the same layout, and NCDHW says so
  return Merge(name, dims, first_volume_, &volume_);
}

bool Inputs::AddVector(const ge::Operator& op, const char* name) {
  const ge::TensorDesc desc = op.GetInputDescByName(name);
  const Dims dims = desc.GetShape().GetDims();
  const std::string input(name);
  if (desc.GetDataType() != ge::DT_FLOAT) {
    return Fail(input + " must be float32, got dtype " + Text(desc.GetDataType()));
  }
  if (HasInvalidDim(dims)) return Fail(input + " has an invalid shape " + Text(dims));
  if (!IsUnknownRank(dims)) {
    const bool blocked = format_ == ge::FORMAT_NDC1HWC0;
    if (!blocked && dims.size() != 1) {
      return Fail(input + " must have 1 dimension (C,), got shape " + Text(dims));
    }
    if (blocked && dims.size() != 6) {
      return Fail(input + " must have 6 dimensions (1, 1, C1, 1, 1, C0) because " + first_volume_ +
                  " is in NDC1HWC0, got shape " + Text(dims));
    }
    for (const size_t axis : {0U, 1U, 3U, 4U}) {
      if (blocked && dims[axis] != 1 && dims[axis] != kUnknownDim) {
        return Fail(input + " must have shape (1, 1, C1, 1, 1, C0), got " + Text(dims));
      }
    }
  }
  if (first_vector_ == nullptr) {
    first_vector_ = name;
    vector_ = dims;
    return true;
  }
  return Merge(name, dims, first_vector_, &vector_);
}

// Carries the channels from the volumes to the vectors and back.
bool Inputs::MatchChannels(const char* volume) {
  const bool blocked = format_ == ge::FORMAT_NDC1HWC0;
  if (IsUnknownRank(vector_)) {
    vector_ = blocked ? Dims{1, 1, kUnknownDim, 1, 1, kC0} : Dims{kUnknownDim};
  }
  if (IsUnknownRank(volume_)) return true;
  const std::vector<std::pair<size_t, size_t>> axes =
      blocked ? std::vector<std::pair<size_t, size_t>>{{2, 2}, {5, 5}}
              : std::vector<std::pair<size_t, size_t>>{{1, 0}};
  for (const auto& axis : axes) {
    int64_t& of_volume = volume_[axis.first];
    int64_t& of_vector = vector_[axis.second];
    if (of_volume == kUnknownDim) of_volume = of_vector;
    if (of_vector == kUnknownDim) of_vector = of_volume;
    if (of_volume != of_vector) {
      return Fail(std::string(volume) + " and " + first_vector_ +
                  " must have the same channels, got shapes " + Text(volume_) + " and " +
                  Text(vector_));
    }
  }
  if (blocked) vector_[0] = vector_[1] = vector_[3] = vector_[4] = 1;
  return true;
}

// Puts what `dims` knows into `known`; fails where the two differ.
bool Inputs::Merge(const char* name, const Dims& dims, const char* earlier, Dims* known) const {
  if (IsUnknownRank(dims)) return true;
  if (IsUnknownRank(*known)) {
    *known = dims;
    return true;
  }
  const Dims before = *known;
  for (size_t i = 0; i < dims.size(); ++i) {
    if ((*known)[i] == kUnknownDim) (*known)[i] = dims[i];
    if (dims[i] != kUnknownDim && dims[i] != (*known)[i]) {
      return Fail(std::string(earlier) + " and " + name + " must have the same shape, got " +
                  Text(before) + " and " + Text(dims));
    }
  }
  return true;
}

bool Inputs::Fail(const std::string& message) const {
  if (ge::ReportUserDefinedErrMsg != nullptr) {
    ge::ReportUserDefinedErrMsg(kErrorCode, "%s: %s", op_type_, message.c_str());
  } else {
    std::fprintf(stderr, "[ERROR] %s: %s\n", op_type_, message.c_str());
  }
  return false;
}

ge::graphStatus Inputs::UpdateVolume(ge::Operator& op, const char* output) const {
  Ranges ranges = ranges_;
  if (ranges.size() != volume_.size()) ranges.clear();
  return Update(op, output, volume_, dtype_, ranges);
}

ge::graphStatus Inputs::UpdateVector(ge::Operator& op, const char* output) const {
  const size_t axis = format_ == ge::FORMAT_NDC1HWC0 ? 2 : 1;
  Ranges ranges;
  if (axis < ranges_.size()) ranges.assign(vector_.size(), ranges_[axis]);
  return Update(op, output, vector_, ge::DT_FLOAT, ranges);
}

// The format is the volume's, also for the (C,) of ND and NCDHW: from an origin format NCDHW the
// engine knows where the one dimension goes when it changes the layout.
// `ranges` are of the unknown dimensions; a known one's range is itself.
ge::graphStatus Inputs::Update(ge::Operator& op, const char* output, const Dims& dims,
                               ge::DataType dtype, Ranges ranges) const {
  for (size_t i = 0; i < ranges.size(); ++i) {
    if (dims[i] != kUnknownDim) ranges[i] = {dims[i], dims[i]};
  }
  ge::TensorDesc desc = op.GetOutputDescByName(output);
  desc.SetShape(ge::Shape(dims));
  desc.SetOriginShape(ge::Shape(dims));
  desc.SetFormat(format_);
  desc.SetOriginFormat(format_);
  desc.SetDataType(dtype);
  if (!ranges.empty()) desc.SetShapeRange(ranges);
  return op.UpdateOutputDesc(output, desc);
}

}  // namespace bn3d
