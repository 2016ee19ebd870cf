// The parts of one call, shared out over its threads.
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <vector>

#include "thread_pool.h"

namespace bn3d {

class Job {
 public:
  // The caller has the first share, thread 0.
  Job(int64_t parts, int threads, const std::function<void(const Take&)>& work)
      : work_(work), shares_(threads) {
    for (int t = 0; t < threads; ++t) {
      shares_[t].next = parts * t / threads;
      shares_[t].end = parts * (t + 1) / threads;
    }
    shares_[0].has_thread = true;
  }

  int threads() const { return static_cast<int>(shares_.size()); }

  // The share of a thread that joins, its own if it can be, or -1 where all have a thread. The
  // pool lets one thread in at a time.
  int join(int own) {
    if (own < threads() && !shares_[own].has_thread) return give(own);
    for (int share = 1; share < threads(); ++share) {
      if (!shares_[share].has_thread) return give(share);
    }
    return -1;
  }

  // Works on the parts of a share, then on those that are left of the others: none is left to be
  // taken when it returns, unless it failed.
  void work(int own) {
    int behind = 0;  // shares that are used up
    try {
      work_([&]() -> int64_t {
        for (; behind < threads(); ++behind) {
          Share& share = shares_[(own + behind) % threads()];
          const int64_t part = share.next.fetch_add(1, std::memory_order_relaxed);
          if (part < share.end) return part;
        }
        return -1;
      });
    } catch (...) {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (!failure_) failure_ = std::current_exception();
    }
  }

  void rethrow() const {
    if (failure_) std::rethrow_exception(failure_);
  }

  // Threads at work on it beside the caller. Changes only while the pool is locked.
  std::atomic<int> helpers{0};

 private:
  struct alignas(64) Share {
    std::atomic<int64_t> next{0};
    int64_t end = 0;
    bool has_thread = false;
  };

  int give(int share) {
    shares_[share].has_thread = true;
    ++helpers;
    return share;
  }

  const std::function<void(const Take&)>& work_;
  std::vector<Share> shares_;
  std::mutex mutex_;
  std::exception_ptr failure_;
};

}  // namespace bn3d
