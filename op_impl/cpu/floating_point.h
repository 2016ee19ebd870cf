// The floating-point environment that everything here computes in.
#pragma once

#if defined(__x86_64__)
#include <xmmintrin.h>
#elif !defined(__aarch64__)
#include <cfenv>
#endif

#include <cstdint>

namespace bn3d {

// The registers themselves where they are known: <cfenv> also saves the x87 unit, which nothing
// here uses and which takes half a microsecond.
#if defined(__x86_64__)

using FloatingPoint = unsigned;  // MXCSR

// To nearest, subnormal numbers count, nothing traps.
constexpr FloatingPoint kDefaultFloatingPoint = 0x1f80;

inline FloatingPoint floating_point() { return _mm_getcsr(); }
inline void set_floating_point(const FloatingPoint& wanted) { _mm_setcsr(wanted); }

#elif defined(__aarch64__)

struct FloatingPoint {
  uint64_t control, status;  // FPCR, FPSR
};

constexpr FloatingPoint kDefaultFloatingPoint = {0, 0};

inline FloatingPoint floating_point() {
  FloatingPoint now;
  asm volatile("mrs %0, fpcr" : "=r"(now.control));
  asm volatile("mrs %0, fpsr" : "=r"(now.status));
  return now;
}

inline void set_floating_point(const FloatingPoint& wanted) {
  asm volatile("msr fpcr, %0" : : "r"(wanted.control));
  asm volatile("msr fpsr, %0" : : "r"(wanted.status));
}

#else

using FloatingPoint = std::fenv_t;

const FloatingPoint& kDefaultFloatingPoint = *FE_DFL_ENV;

inline FloatingPoint floating_point() {
  FloatingPoint now;
  std::fegetenv(&now);
  return now;
}
inline void set_floating_point(const FloatingPoint& wanted) { std::fesetenv(&wanted); }

#endif

// The default environment while one of these lives, then the caller's again, flags included.
// MindSpore's graph threads count subnormal numbers as 0.
class DefaultFloatingPoint {
 public:
  DefaultFloatingPoint() : callers_(floating_point()) { set_floating_point(kDefaultFloatingPoint); }
  ~DefaultFloatingPoint() { set_floating_point(callers_); }
  DefaultFloatingPoint(const DefaultFloatingPoint&) = delete;
  DefaultFloatingPoint& operator=(const DefaultFloatingPoint&) = delete;

 private:
  const FloatingPoint callers_;
};

}  // namespace bn3d
