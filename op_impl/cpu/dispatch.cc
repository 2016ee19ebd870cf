#include "dispatch.h"

#include <cstdlib>
#include <cstring>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace bn3d {

namespace baseline {
extern const Kernels kKernels[kDTypes];
}
#if defined(__x86_64__)
namespace avx2 {
extern const Kernels kKernels[kDTypes];
}
namespace avx512 {
extern const Kernels kKernels[kDTypes];
}
#endif

namespace {

struct Choice {
  const char* name;
  const Kernels* kernels;
};

#if defined(__x86_64__)
// Clang's __builtin_cpu_supports learned this name in version 15 only.
bool has_f16c() {
  unsigned a, b, c, d;
  return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}
#endif

Choice choose() {
#if defined(__x86_64__)
  const char* wanted = std::getenv("BN3D_ISA");
  const auto allowed = [wanted](const char* name) {
    return wanted == nullptr || *wanted == '\0' || std::strcmp(wanted, name) == 0;
  };
  const bool has_avx2 = __builtin_cpu_supports("avx2") && has_f16c();
  const bool has_avx512 = has_avx2 && __builtin_cpu_supports("avx512f") &&
                          __builtin_cpu_supports("avx512bw") &&
                          __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (has_avx512 && allowed("avx512")) return {"avx512", avx512::kKernels};
  if (has_avx2 && (allowed("avx2") || allowed("avx512"))) return {"avx2", avx2::kKernels};
#endif
  return {"baseline", baseline::kKernels};
}

const Choice& choice() {
  static const Choice chosen = choose();
  return chosen;
}

int64_t streamed_from() {
  const char* wanted = std::getenv("BN3D_STREAMED_BYTES");
  return wanted == nullptr || *wanted == '\0' ? int64_t{16} << 20 : std::atoll(wanted);
}

}  // namespace

const Kernels& kernels(DType dtype) { return choice().kernels[static_cast<int>(dtype)]; }

int64_t streamed_bytes() {
  static const int64_t bytes = streamed_from();
  return bytes;
}

const char* instruction_set() { return choice().name; }

}  // namespace bn3d
