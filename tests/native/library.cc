#include "library.h"

#include <dlfcn.h>
#include <sched.h>

#include <atomic>
#include <stdexcept>

namespace {
std::atomic<int> processors{1};
}

// Takes the place of libc's for the library as well: machines with few processors are to test
// many threads.
extern "C" int sched_getaffinity(pid_t, size_t size, cpu_set_t* set) {
  CPU_ZERO_S(size, set);
  for (int i = 0; i < processors; ++i) CPU_SET_S(i, size, set);
  return 0;
}

namespace bn3d_test {

Library::Library(const char* path) : handle_(dlopen(path, RTLD_NOW | RTLD_LOCAL)) {
  if (handle_ == nullptr) throw std::runtime_error(dlerror());
}

void* Library::symbol(const std::string& name) const {
  void* found = dlsym(handle_, name.c_str());
  if (found == nullptr) throw std::runtime_error("the library has no " + name);
  return found;
}

Library::Entry Library::entry(const std::string& name) const {
  return reinterpret_cast<Entry>(symbol(name));
}

void Library::call(const std::string& name, const std::vector<Tensor*>& tensors) const {
  std::vector<void*> params;
  std::vector<int> ndims;
  std::vector<int64_t*> shapes;
  std::vector<const char*> dtypes;
  for (Tensor* tensor : tensors) {
    params.push_back(tensor->data);
    ndims.push_back(static_cast<int>(tensor->shape.size()));
    shapes.push_back(tensor->shape.data());
    dtypes.push_back(name_of(tensor->type));
  }
  const int code = entry(name)(static_cast<int>(tensors.size()), params.data(), ndims.data(),
                               shapes.data(), dtypes.data(), nullptr, nullptr);
  if (code != 0) throw std::runtime_error(name + " returned " + std::to_string(code));
}

std::vector<Shape> Library::infer(const std::string& name, std::vector<Shape> inputs) const {
  std::vector<int> ndims;
  std::vector<int64_t*> shapes;
  for (Shape& shape : inputs) {
    ndims.push_back(static_cast<int>(shape.size()));
    shapes.push_back(shape.data());
  }
  void* function = symbol(name + "InferShape");
  // MindSpore expects one shape from an operator of one output, else a vector of them.
  const bool one = name == "Bn3dApply" || name == "Bn3dGradApply";
  if (one) {
    using InferOne = Shape (*)(int*, int64_t**, void*);
    return {reinterpret_cast<InferOne>(function)(ndims.data(), shapes.data(), nullptr)};
  }
  using Infer = std::vector<Shape> (*)(int*, int64_t**, void*);
  return reinterpret_cast<Infer>(function)(ndims.data(), shapes.data(), nullptr);
}

void Library::set_threads(int threads) const {
  processors = threads;
  reinterpret_cast<void (*)(int)>(symbol("bn3d_set_threads"))(threads);
}

const char* Library::instruction_set() const {
  return reinterpret_cast<const char* (*)()>(symbol("bn3d_instruction_set"))();
}

}  // namespace bn3d_test
