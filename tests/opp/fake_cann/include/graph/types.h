#ifndef FAKE_CANN_GRAPH_TYPES_H_
#define FAKE_CANN_GRAPH_TYPES_H_

#include <cstdint>
#include <memory>
#include <string>

namespace ge {

using graphStatus = uint32_t;
const graphStatus GRAPH_SUCCESS = 0;
const graphStatus GRAPH_FAILED = 0xFFFFFFFF;

// The values are those of the engine's serialised models.
enum DataType {
  DT_FLOAT = 0,
  DT_FLOAT16 = 1,
  DT_INT8 = 2,
  DT_INT32 = 3,
  DT_INT64 = 9,
  DT_DOUBLE = 11,
  DT_BF16 = 27,
};

enum Format {
  FORMAT_NCHW = 0,
  FORMAT_NHWC = 1,
  FORMAT_ND = 2,
  FORMAT_NC1HWC0 = 3,
  FORMAT_NDHWC = 27,
  FORMAT_NCDHW = 30,
  FORMAT_NDC1HWC0 = 32,
};

class AscendString {
 public:
  AscendString() = default;
  AscendString(const char* text);
  const char* GetString() const;

 private:
  std::shared_ptr<std::string> name_;
};

}  // namespace ge

#endif  // FAKE_CANN_GRAPH_TYPES_H_
