// The pool of threads and the count of processors by themselves:
//
//     threads pool        calls at once, threads that do not start, bound callers
//     threads quota ROOT  prints the processors that the control group allows, its files below ROOT
#include <pthread.h>
#include <sched.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <vector>

#include "../../op_impl/cpu/processors.h"
#include "../../op_impl/cpu/thread_pool.h"
#include "thread_creation.h"

namespace {

int failures = 0;

void expect(bool holds, const char* what) {
  if (holds) return;
  ++failures;
  std::printf("FAILED: %s\n", what);
}

// What one thread waits for and another one brings about. A wait that would last for ever ends
// the program.
class Event {
 public:
  void set() {
    const std::lock_guard<std::mutex> lock(mutex_);
    happened_ = true;
    changed_.notify_all();
  }
  void wait(const char* what) {
    std::unique_lock<std::mutex> lock(mutex_);
    if (changed_.wait_for(lock, std::chrono::seconds(20), [&] { return happened_; })) return;
    std::printf("FAILED: %s did not happen\n", what);
    std::fflush(stdout);
    std::_Exit(1);
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool happened_ = false;
};

// Every part once, whichever threads there are.
void expect_all_parts(int threads, const char* what) {
  constexpr int64_t kParts = 1000;
  std::vector<std::atomic<int>> times(kParts);
  bn3d::parallel_for(kParts, threads, [&](int64_t part) { ++times[part]; });
  for (const std::atomic<int>& n : times) {
    if (n != 1) return expect(false, what);
  }
}

void compute_where_no_thread_starts() {
  bn3d_test::allow_threads(0);
  expect_all_parts(4, "the parts are done where no thread starts");
  expect_all_parts(4, "and done again");
}

void compute_with_the_one_that_starts() {
  bn3d_test::allow_threads(1);
  // Each of two parts waits for the other one, so a second thread is there.
  Event parts[2];
  bn3d::parallel_for(2, 2, [&](int64_t part) {
    parts[part].set();
    parts[1 - part].wait("a part on a thread that starts later");
  });
  expect_all_parts(4, "the parts are done where one thread starts");
}

void compute_with_all_once_they_start() {
  Event all[4];
  bn3d::parallel_for(4, 4, [&](int64_t part) {
    all[part].set();
    for (Event& other : all) other.wait("a part on each of four threads");
  });
}

// The only worker is busy with the first call when the second one begins, and joins that one
// afterwards.
void join_an_open_call() {
  bn3d_test::allow_threads(2);  // for the callers
  Event first_has_both[2], first_may_end, second_runs, second_has_two;
  std::thread first([&] {
    bn3d::parallel_for(2, 2, [&](int64_t part) {
      first_has_both[part].set();
      first_may_end.wait("the end of the first call");
    });
  });
  for (Event& event : first_has_both) event.wait("the first call on two threads");
  std::thread second([&] {
    const std::thread::id caller = std::this_thread::get_id();
    bn3d::parallel_for(2, 2, [&](int64_t) {
      second_runs.set();
      if (std::this_thread::get_id() != caller) return second_has_two.set();
      second_has_two.wait("a worker in the second call");
    });
  });
  second_runs.wait("the second call");
  first_may_end.set();
  first.join();
  second.join();
}

// What a part throws reaches the caller, whichever thread it was on, and the pool goes on.
void throw_on(bool the_callers) {
  const std::thread::id caller = std::this_thread::get_id();
  Event parts[2];
  bool caught = false;
  try {
    bn3d::parallel_for(2, 2, [&](int64_t part) {
      parts[part].set();
      parts[1 - part].wait("a part on another thread");
      if ((std::this_thread::get_id() == caller) == the_callers) throw std::out_of_range("part");
    });
  } catch (const std::out_of_range&) {
    caught = true;
  }
  expect(caught, "an exception of a part reaches the caller");
  expect_all_parts(2, "the parts of the next call are done");
}

void run_here_alone(int processor) {
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(processor, &one);
  sched_setaffinity(0, sizeof one, &one);
}

// Of the workers of a call of sixteen threads, those that may run elsewhere than they are to.
int workers_outside_of(const cpu_set_t& allowed) {
  const std::thread::id caller = std::this_thread::get_id();
  Event parts[16];
  std::atomic<int> outside{0};
  bn3d::parallel_for(16, 16, [&](int64_t part) {
    parts[part].set();
    for (Event& other : parts) other.wait("a part on each of sixteen threads");
    cpu_set_t own;
    sched_getaffinity(0, sizeof own, &own);
    if (std::this_thread::get_id() != caller && !CPU_EQUAL(&own, &allowed)) ++outside;
  });
  return outside;
}

// A caller that is bound to one processor binds neither the count nor the workers, which leave that
// processor to it, wherever it calls from.
void use_the_processors_of_the_process() {
  cpu_set_t process;
  sched_getaffinity(0, sizeof process, &process);
  if (CPU_COUNT(&process) < 2) {
    std::printf("bound callers: not run, there is one processor\n");
    return;
  }
  const int usable = bn3d::usable_threads();
  std::thread([&] {
    for (int processor = 0; processor < CPU_SETSIZE; ++processor) {
      if (!CPU_ISSET(processor, &process)) continue;
      run_here_alone(processor);
      expect(bn3d::usable_threads() == usable, "a bound caller counts the process's processors");
      cpu_set_t others = process;
      CPU_CLR(processor, &others);
      expect(workers_outside_of(others) == 0, "workers run where the caller does not");
      cpu_set_t own;
      sched_getaffinity(0, sizeof own, &own);
      expect(CPU_COUNT(&own) == 1 && CPU_ISSET(processor, &own), "the caller stays bound");
    }
  }).join();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 3 && std::strcmp(argv[1], "quota") == 0) {
    std::printf("%d\n", bn3d::quota(argv[2]));
    return 0;
  }
  if (argc != 2 || std::strcmp(argv[1], "pool") != 0) {
    std::fprintf(stderr, "usage: %s pool | quota ROOT\n", argv[0]);
    return 2;
  }
  compute_where_no_thread_starts();
  compute_with_the_one_that_starts();
  join_an_open_call();
  bn3d_test::allow_threads(1000);
  compute_with_all_once_they_start();
  throw_on(true);
  throw_on(false);
  use_the_processors_of_the_process();
  std::printf("pool of threads: %d failed\n", failures);
  return failures == 0 ? 0 : 1;
}
