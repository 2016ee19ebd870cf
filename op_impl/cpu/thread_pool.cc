#include "thread_pool.h"

#include <pthread.h>
#include <sched.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace bn3d {

namespace {

// The parts of one call, shared out over the threads.
class Job {
 public:
  Job(int64_t parts, int threads, const std::function<void(int64_t)>& part, Order order)
      : part_(part), order_(order), shares_(threads) {
    for (int t = 0; t < threads; ++t) {
      shares_[t].begin = parts * t / threads;
      shares_[t].end = parts * (t + 1) / threads;
    }
  }

  int threads() const { return static_cast<int>(shares_.size()); }

  void work(int thread) {
    for (int i = 0; i < threads(); ++i) {
      Share& share = shares_[(thread + i) % threads()];
      while (true) {
        const int64_t taken = share.taken.fetch_add(1, std::memory_order_relaxed);
        if (taken >= share.end - share.begin) break;
        run(order_ == Order::kFirstFirst ? share.begin + taken : share.end - 1 - taken);
      }
    }
  }

  void rethrow() const {
    if (failure_) std::rethrow_exception(failure_);
  }

 private:
  struct alignas(64) Share {
    int64_t begin = 0, end = 0;
    std::atomic<int64_t> taken{0};
  };

  void run(int64_t index) {
    try {
      part_(index);
    } catch (...) {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (!failure_) failure_ = std::current_exception();
    }
  }

  const std::function<void(int64_t)>& part_;
  const Order order_;
  std::vector<Share> shares_;
  std::mutex mutex_;
  std::exception_ptr failure_;
};

// Waits some microseconds for what is about to happen: the next phase of the same call, or the
// end of the last part. Sleeping and being woken takes longer.
template <typename Condition>
void spin_until(Condition condition) {
  constexpr auto kLongest = std::chrono::microseconds(20);
  const auto until = std::chrono::steady_clock::now() + kLongest;
  while (!condition() && std::chrono::steady_clock::now() < until) {
  }
}

class ThreadPool {
 public:
  // Runs the job on its threads, or on the caller's alone where another call has the pool:
  // the result is the same.
  void run(Job& job) {
    const std::unique_lock<std::mutex> busy(in_use_, std::try_to_lock);
    if (!busy) return job.work(0);
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      grow(job.threads() - 1);
      job_ = &job;
      ++generation_;
    }
    wake_.notify_all();
    job.work(0);
    // All parts are taken now. Only threads that have come are waited for: one that the
    // system has not woken yet finds no job.
    std::unique_lock<std::mutex> lock(mutex_);
    job_ = nullptr;
    lock.unlock();
    spin_until([this] { return working_ == 0; });
    lock.lock();
    done_.wait(lock, [this] { return working_ == 0; });
  }

 private:
  void grow(int workers) {
    while (workers_ < workers) {
      const int thread = ++workers_;
      std::thread(&ThreadPool::serve, this, thread, generation_.load()).detach();
    }
  }

  void serve(int thread, uint64_t seen) {
    std::unique_lock<std::mutex> lock(mutex_, std::defer_lock);
    while (true) {
      spin_until([&] { return generation_ != seen; });
      lock.lock();
      wake_.wait(lock, [&] { return generation_ != seen; });
      seen = generation_;
      if (job_ == nullptr || thread >= job_->threads()) {
        lock.unlock();
        continue;
      }
      Job& job = *job_;
      ++working_;
      lock.unlock();
      job.work(thread);
      lock.lock();
      if (--working_ == 0) done_.notify_one();
      lock.unlock();
    }
  }

  std::mutex in_use_;
  std::mutex mutex_;
  std::condition_variable wake_, done_;
  Job* job_ = nullptr;
  std::atomic<uint64_t> generation_{0};
  std::atomic<int> working_{0};
  int workers_ = 0;
};

// Never destroyed: its threads outlive main(). A forked child (a dataset worker) has none of
// them and so starts with a pool of its own.
std::atomic<ThreadPool*> pool{nullptr};

ThreadPool& the_pool() {
  static const bool forgets_on_fork =
      pthread_atfork(nullptr, nullptr, [] { pool.store(nullptr); }) == 0;
  (void)forgets_on_fork;
  ThreadPool* current = pool.load();
  if (current == nullptr) {
    auto fresh = std::make_unique<ThreadPool>();
    if (pool.compare_exchange_strong(current, fresh.get())) current = fresh.release();
  }
  return *current;
}

std::atomic<int> threads_set{0};

}  // namespace

void set_threads(int threads) { threads_set = threads; }

int usable_threads() {
  cpu_set_t set;
  int processors = 1;
  if (sched_getaffinity(0, sizeof set, &set) == 0) {
    processors = CPU_COUNT(&set);
  } else {
    // More processors than cpu_set_t holds.
    processors = static_cast<int>(std::thread::hardware_concurrency());
  }
  const int wanted = threads_set;
  return wanted > 0 && wanted < processors ? wanted : (processors > 0 ? processors : 1);
}

void parallel_for(int64_t parts, int threads, const std::function<void(int64_t)>& part,
                  Order order) {
  if (threads > parts) threads = static_cast<int>(parts);
  if (threads <= 1) {
    for (int64_t i = 0; i < parts; ++i) part(order == Order::kFirstFirst ? i : parts - 1 - i);
    return;
  }
  Job job(parts, threads, part, order);
  the_pool().run(job);
  job.rethrow();
}

}  // namespace bn3d
