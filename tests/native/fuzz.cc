// libFuzzer target: calls of the C interface that the fuzzer makes up.
//
// Tensors have the memory that their shape and dtype ask for, as MindSpore guarantees; a raw
// pointer does not tell more. Everything else is up to the fuzzer: entry point, count, ranks,
// dimensions, dtypes, null pointers, outputs in place of inputs, values, eps and momentum, threads.
// The library has to accept a call exactly if it is well formed, to write nothing but outputs,
// and to throw nothing but std::invalid_argument.
#include <cstdio>
#include <cstring>
#include <stdexcept>

#include "calls.h"

namespace bn3d_test {
namespace {

const Library& library() {
  static const Library opened(std::getenv("BN3D_LIBRARY"));
  return opened;
}

class Bytes {
 public:
  Bytes(const uint8_t* data, size_t size) : data_(data), left_(size) {}
  uint8_t next() {
    if (left_ == 0) return 0;
    --left_;
    return *data_++;
  }
  bool rarely() { return next() % 32 == 31; }

 private:
  const uint8_t* data_;
  size_t left_;
};

struct Argument {
  Type type;
  std::string dtype;
  Shape shape;
  void* data;
  std::shared_ptr<void> block;
  size_t bytes = 0;
};

bool overflows(const Shape& shape) {
  int64_t product = 8;
  for (const int64_t d : shape) {
    if (d > 0 && __builtin_mul_overflow(product, d, &product)) return true;
  }
  return false;
}

bool empty(const Shape& shape) {
  for (const int64_t d : shape) {
    if (d == 0) return true;
  }
  return false;
}

bool negative(const Shape& shape) {
  for (const int64_t d : shape) {
    if (d < 0) return true;
  }
  return false;
}

int64_t dimension(Bytes* bytes) {
  const uint8_t b = bytes->next();
  if (b < 240) return b % 9;
  if (b < 246) return 40 * (b - 239);
  constexpr int64_t kOdd[] = {-1,
                              -2,
                              INT64_MIN,
                              INT64_MAX,
                              int64_t{1} << 31,
                              int64_t{1} << 32,
                              int64_t{1} << 61,
                              int64_t{1} << 40,
                              1 << 12,
                              0};
  return kOdd[b - 246];
}

Type floating_type(Bytes* bytes) { return kFloatingTypes[bytes->next() % 4]; }

// What a well-formed call has in this place.
Argument well_formed(char kind, Type type, const Shape& volume, Bytes* bytes) {
  Argument argument{};
  argument.type = floating_type(bytes);
  argument.shape = {volume[1]};
  if (kind == 'x' || kind == 'd' || kind == 'y') {
    argument.type = type;
    argument.shape = volume;
  } else if (kind == 's') {
    argument.type = Type::kInt64;
    argument.shape = {2};
  } else if (kind == 'S' || kind == 'R') {
    argument.type = Type::kInt64;
    argument.shape = {4, volume[1]};
  } else if (kind == 'W') {
    argument.type = Type::kFloat64;
    argument.shape = {4, volume[1]};
  }
  argument.dtype = name_of(argument.type);
  return argument;
}

// Room for what the shape says, or none where that is impossible: then the call has to be refused
// before the memory is touched.
bool allocate(Argument* argument, Bytes* bytes) {
  constexpr int64_t kMost = 1 << 17;
  if (negative(argument->shape) || overflows(argument->shape)) return true;
  int64_t size = size_of(argument->type);
  for (const int64_t d : argument->shape) size *= d;
  if (size > kMost) return false;
  argument->bytes = size;
  argument->block = std::shared_ptr<void>(std::malloc(size), std::free);
  argument->data = argument->block.get();
  uint8_t pattern[16];
  for (uint8_t& b : pattern) b = bytes->next();
  for (int64_t i = 0; i < size; i += sizeof pattern) {
    const int64_t left = size - i, most = sizeof pattern;
    std::memcpy(static_cast<uint8_t*>(argument->data) + i, pattern, left < most ? left : most);
    ++pattern[i / most % most];
  }
  return true;
}

// Independent of the library's own checks.
bool acceptable(const std::string& kinds, const std::vector<Argument>& arguments) {
  if (arguments.size() != kinds.size()) return false;
  const Argument& x = arguments[kinds[0] == 'd' ? 1 : 0];
  for (size_t i = 0; i < kinds.size(); ++i) {
    const Argument& a = arguments[i];
    const bool floating = a.dtype == "float32" || a.dtype == "float16" || a.dtype == "bfloat16" ||
                          a.dtype == "float64";
    if (negative(a.shape) || overflows(a.shape)) return false;
    if (a.data == nullptr && !empty(a.shape)) return false;
    switch (kinds[i]) {
      case 'x':
      case 'd':
      case 'y':
        if (a.shape != x.shape || a.dtype != x.dtype || !floating || a.shape.size() < 2)
          return false;
        break;
      case 's':
        if (a.dtype != "int64" || a.shape != Shape{2}) return false;
        break;
      case 'S':
      case 'R':
      case 'W':
        if (a.dtype != (kinds[i] == 'W' ? "float64" : "int64") || x.shape.size() < 2 ||
            a.shape != Shape{4, x.shape[1]})
          return false;
        break;
      default:
        if (!floating || x.shape.size() < 2 || a.shape != Shape{x.shape[1]}) return false;
    }
  }
  return true;
}

void fuzz(Bytes bytes) {
  const EntryPoint& entry = entry_points()[bytes.next() % entry_points().size()];
  const std::string kinds = entry.inputs + entry.outputs;
  library().set_threads(1 + bytes.next() % 4);

  const Type type = floating_type(&bytes);
  Shape volume(2 + bytes.next() % 4);
  for (int64_t& d : volume) d = bytes.rarely() ? dimension(&bytes) : bytes.next() % 5;
  // Enough for a second thread.
  if (bytes.rarely() && bytes.rarely()) volume = {1, 2, 9000};

  std::vector<Argument> arguments;
  for (const char kind : kinds) {
    Argument argument = well_formed(kind, type, volume, &bytes);
    if (bytes.rarely()) argument.shape.assign(bytes.next() % 12, dimension(&bytes));
    if (bytes.rarely() && !argument.shape.empty()) {
      argument.shape[bytes.next() % argument.shape.size()] = dimension(&bytes);
    }
    if (bytes.rarely()) {
      argument.type = static_cast<Type>(bytes.next() % 5);
      argument.dtype = name_of(argument.type);
    }
    if (!allocate(&argument, &bytes)) return;
    if (bytes.rarely()) {
      // Of a size that no dtype of the library has, so never to be read.
      const char* const unknown[] = {"", "complex128", "float3", "float320", "bool", "Float32"};
      argument.dtype = unknown[bytes.next() % 6];
    }
    if (bytes.rarely()) argument.data = nullptr;
    arguments.push_back(std::move(argument));
  }
  // An output in place of an input that has its shape.
  if (bytes.rarely() && entry.outputs[0] == 'y') {
    Argument &x = arguments[0], &y = arguments[entry.inputs.size()];
    if (x.bytes == y.bytes && x.data != nullptr && y.data != nullptr) y.data = x.data;
  }
  if (bytes.rarely()) arguments.resize(bytes.next() % (kinds.size() + 1));

  std::vector<void*> params(20);
  std::vector<int> ndims(20);
  std::vector<int64_t*> shapes(20);
  std::vector<const char*> dtypes(20);
  std::vector<std::string> before;
  for (size_t i = 0; i < arguments.size(); ++i) {
    Argument& a = arguments[i];
    params[i] = a.data;
    ndims[i] = static_cast<int>(a.shape.size());
    shapes[i] = a.shape.data();
    dtypes[i] = a.dtype.c_str();
    before.emplace_back(static_cast<const char*>(a.block.get()), a.block ? a.bytes : 0);
  }
  bool good = acceptable(kinds, arguments);
  if (bytes.rarely() && !arguments.empty()) {
    dtypes[bytes.next() % arguments.size()] = nullptr;
    good = false;
  }
  if (bytes.rarely() && !arguments.empty()) {
    const size_t i = bytes.next() % arguments.size();
    good = good && ndims[i] == 0;
    shapes[i] = nullptr;
  }

  bool accepted = true;
  try {
    library().entry(entry.name)(static_cast<int>(arguments.size()), params.data(), ndims.data(),
                                shapes.data(), dtypes.data(), nullptr, nullptr);
  } catch (const std::invalid_argument&) {
    accepted = false;
  }
  if (accepted != good) {
    std::fprintf(stderr, "%s was %s\n", entry.name, accepted ? "accepted" : "refused");
    std::abort();
  }
  for (size_t i = 0; i < arguments.size(); ++i) {
    const Argument& a = arguments[i];
    const bool moving = entry.name == std::string("Bn3dForwardTraining") && (i == 3 || i == 4);
    bool written = accepted && (i >= entry.inputs.size() || moving);
    if (accepted && i == 0) written = arguments[entry.inputs.size()].data == a.data;
    if (!written && a.block && std::memcmp(before[i].data(), a.block.get(), a.bytes) != 0) {
      std::fprintf(stderr, "%s has written tensor %zu\n", entry.name, i);
      std::abort();
    }
  }
}

}  // namespace
}  // namespace bn3d_test

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  bn3d_test::fuzz({data, size});
  return 0;
}
