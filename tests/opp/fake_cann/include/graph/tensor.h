#ifndef FAKE_CANN_GRAPH_TENSOR_H_
#define FAKE_CANN_GRAPH_TENSOR_H_

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "graph/types.h"

namespace ge {

class ShapeImpl;
class Shape {
 public:
  explicit Shape(const std::vector<int64_t>& dims);
  std::vector<int64_t> GetDims() const;

 private:
  std::shared_ptr<ShapeImpl> impl_;
};

class TensorDescImpl;
class TensorDesc {
 public:
  TensorDesc();
  TensorDesc(const TensorDesc& other);

  Shape GetShape() const;
  Shape GetOriginShape() const;
  Format GetFormat() const;
  Format GetOriginFormat() const;
  DataType GetDataType() const;
  graphStatus GetShapeRange(std::vector<std::pair<int64_t, int64_t>>& ranges) const;

  void SetShape(const Shape& shape);
  void SetOriginShape(const Shape& shape);
  void SetFormat(Format format);
  void SetOriginFormat(Format format);
  void SetDataType(DataType dtype);
  graphStatus SetShapeRange(const std::vector<std::pair<int64_t, int64_t>>& ranges);

 private:
  std::shared_ptr<TensorDescImpl> impl;
};

}  // namespace ge

#endif  // FAKE_CANN_GRAPH_TENSOR_H_
