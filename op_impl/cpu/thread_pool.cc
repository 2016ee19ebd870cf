#include "thread_pool.h"

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdio>
#include <memory>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "floating_point.h"
#include "job.h"
#include "processors.h"
#include "spin.h"

namespace bn3d {

namespace {

struct Worker {
  pthread_t thread;
  cpu_set_t allowed;  // where it may run, if that was set
};

class ThreadPool {
 public:
  void run(Job& job) {
    open(job);
    job.work(0);
    close(job);
  }

 private:
  void open(Job& job) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      grow(job.threads() - 1);
      leave_the_callers_processor(job.threads() - 1);
      open_.push_back(&job);
      ++opened_;
    }
    wake_.notify_all();
  }

  // No part is left, unless one failed. Only threads that have come are waited for: one that the
  // system has not woken yet finds no job.
  void close(Job& job) {
    std::unique_lock<std::mutex> lock(mutex_);
    withdraw(job);
    lock.unlock();
    spin_until([&] { return job.helpers == 0; });
    lock.lock();
    done_.wait(lock, [&] { return job.helpers == 0; });
  }

  void withdraw(Job& job) {
    open_.erase(std::remove(open_.begin(), open_.end(), &job), open_.end());
  }

  void grow(size_t workers) {
    workers_.reserve(workers);
    while (workers_.size() < workers) {
      try {
        std::thread worker(&ThreadPool::serve, this, static_cast<int>(workers_.size()) + 1);
        workers_.push_back({worker.native_handle(), {}});
        worker.detach();
      } catch (const std::system_error& error) {
        tell(error);
        return;
      }
    }
  }

  // MindSpore's threads wait by spinning. Where they keep all other processors busy, the system
  // wakes a worker on the caller's own, and there it computes in the caller's place, not beside it.
  void leave_the_callers_processor(size_t helpers) {
    cpu_set_t beside;
    if (!beside_the_caller(&beside)) return;
    for (size_t i = 0; i < std::min(helpers, workers_.size()); ++i) {
      Worker& worker = workers_[i];
      if (CPU_EQUAL(&beside, &worker.allowed)) continue;
      pthread_setaffinity_np(worker.thread, sizeof beside, &beside);
      worker.allowed = beside;
    }
  }

  void tell(const std::system_error& error) {
    if (told_) return;
    told_ = true;
    std::fprintf(stderr, "bn3d: the system starts no more threads (%s): %d compute\n", error.what(),
                 static_cast<int>(workers_.size()) + 1);
  }

  // One that has fewer threads than others, so that calls share the workers.
  Job* join_any(int worker, int* share) {
    std::sort(open_.begin(), open_.end(), [](Job* a, Job* b) { return a->helpers < b->helpers; });
    for (Job* job : open_) {
      *share = job->join(worker);
      if (*share >= 0) return job;
    }
    return nullptr;
  }

  void serve(int worker) {
    const DefaultFloatingPoint environment;
    pthread_setname_np(pthread_self(), "bn3d");
    std::unique_lock<std::mutex> lock(mutex_);
    while (true) {
      int share;
      if (Job* job = join_any(worker, &share)) {
        lock.unlock();
        job->work(share);
        lock.lock();
        withdraw(*job);
        if (--job->helpers == 0) done_.notify_all();
        continue;
      }
      const uint64_t seen = opened_;
      const auto more = [&] { return opened_ != seen; };
      lock.unlock();
      spin_until(more);
      lock.lock();
      wake_.wait(lock, more);
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_, done_;
  std::vector<Job*> open_;  // with parts that no thread has taken
  std::atomic<uint64_t> opened_{0};
  std::vector<Worker> workers_;
  bool told_ = false;
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

}  // namespace

void parallel(int64_t parts, int threads, const std::function<void(const Take&)>& work) {
  if (threads > parts) threads = static_cast<int>(parts);
  if (threads < 1) threads = 1;
  Job job(parts, threads, work);
  if (threads == 1) {
    job.work(0);
  } else {
    the_pool().run(job);
  }
  job.rethrow();
}

void parallel_for(int64_t parts, int threads, const std::function<void(int64_t)>& part) {
  parallel(parts, threads, [&](const Take& take) {
    for (int64_t i = take(); i >= 0; i = take()) part(i);
  });
}

}  // namespace bn3d
