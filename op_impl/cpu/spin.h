// Waiting without sleep.
#pragma once

#include <chrono>

namespace bn3d {

// Tells the processor that this loop waits for memory: it saves power and leaves the core to
// its other hardware thread.
inline void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Waits some microseconds for what is about to happen: the next phase of the same call, or the
// end of the last part. Sleeping and being woken takes longer.
template <typename Condition>
void spin_until(Condition condition) {
  constexpr auto kLongest = std::chrono::microseconds(20);
  const auto until = std::chrono::steady_clock::now() + kLongest;
  while (!condition() && std::chrono::steady_clock::now() < until) pause();
}

}  // namespace bn3d
