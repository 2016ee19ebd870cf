#include "thread_creation.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>

#include <atomic>

namespace {
std::atomic<int> allowed{1000};
}

// Takes the place of libc's.
extern "C" int pthread_create(pthread_t* thread, const pthread_attr_t* attributes,
                              void* (*run)(void*), void* argument) {
  using Create = int (*)(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*);
  static const auto create = reinterpret_cast<Create>(dlsym(RTLD_NEXT, "pthread_create"));
  if (allowed-- <= 0) return EAGAIN;
  return create(thread, attributes, run, argument);
}

namespace bn3d_test {

void allow_threads(int count) { allowed = count; }

}  // namespace bn3d_test
