#include "environment.h"

namespace bn3d_test {

namespace {

#if defined(__x86_64__)

// MXCSR: flush to zero is bit 15, rounding bits 13 and 14, the masks of exceptions 7 to 12,
// denormals are zero bit 6. Without bits 7 and 9 an invalid operation and a division by 0 trap.
constexpr uint64_t kFlushing = 0x8040, kUpward = 0x4000, kUntrapped = 0x0280;

uint64_t get() { return __builtin_ia32_stmxcsr(); }
void set(uint64_t value) { __builtin_ia32_ldmxcsr(static_cast<unsigned>(value)); }

#elif defined(__aarch64__)

// FPCR above FPSR: flush to zero is bit 24, rounding bits 22 and 23; traps are optional.
constexpr uint64_t kFlushing = uint64_t{1} << 56, kUpward = uint64_t{1} << 54, kUntrapped = 0;

uint64_t get() {
  uint64_t control, status;
  asm volatile("mrs %0, fpcr" : "=r"(control));
  asm volatile("mrs %0, fpsr" : "=r"(status));
  return control << 32 | status;
}

void set(uint64_t value) {
  asm volatile("msr fpcr, %0" : : "r"(value >> 32));
  asm volatile("msr fpsr, %0" : : "r"(value & 0xffffffffu));
}

#endif

}  // namespace

InEnvironment::InEnvironment(Environment environment) : before_(get()), set_(before_) {
  if (environment != Environment::kDefault) set_ |= kFlushing;
  if (environment == Environment::kUpward) set_ = (set_ | kUpward) & ~kUntrapped;
  set(set_);
}

InEnvironment::~InEnvironment() { set(before_); }

bool InEnvironment::unchanged() const { return get() == set_; }

}  // namespace bn3d_test
