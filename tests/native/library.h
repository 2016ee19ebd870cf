// The library under test, opened and called as MindSpore does.
#pragma once

#include <string>
#include <vector>

#include "tensor.h"

namespace bn3d_test {

using Shape = std::vector<int64_t>;

class Library {
 public:
  explicit Library(const char* path);

  // Calls an entry point with inputs and outputs; what it throws comes through.
  void call(const std::string& name, const std::vector<Tensor*>& tensors) const;

  using Entry = int (*)(int count, void** params, int* ndims, int64_t** shapes, const char** dtypes,
                        void* stream, void* extra);
  Entry entry(const std::string& name) const;

  // What the entry point's shape inference gives for these inputs.
  std::vector<Shape> infer(const std::string& name, std::vector<Shape> inputs) const;

  // How many threads a call uses, whatever this machine has.
  void set_threads(int threads) const;
  const char* instruction_set() const;

 private:
  void* symbol(const std::string& name) const;
  void* handle_;
};

}  // namespace bn3d_test
