// The floating-point environment of a caller.
#pragma once

#include <cstdint>

namespace bn3d_test {

// kFlushing counts subnormal numbers as 0, as MindSpore's graph threads do. kUpward does so too,
// rounds upward and, where the processor can, traps what makes no number.
enum class Environment { kDefault, kFlushing, kUpward };

// Sets it for the calling thread, and the one of before when it ends.
class InEnvironment {
 public:
  explicit InEnvironment(Environment);
  ~InEnvironment();

  // Whether it is as it was set, flags of exceptions included.
  bool unchanged() const;

 private:
  uint64_t before_, set_;
};

}  // namespace bn3d_test
