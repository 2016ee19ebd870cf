// Threads that are started once and share the parts of all calls that are under way.
#pragma once

#include <cstdint>
#include <functional>

namespace bn3d {

// Gives the next part of a job, or -1 where all are taken.
using Take = std::function<int64_t()>;

// Calls work(take) on up to `threads` threads, the caller's included, for which take() gives out
// the parts 0 ... parts - 1, each once, and returns when all calls have. A thread is given a
// contiguous share of the parts first, the same for the same (parts, threads) as a rule, then
// helps others: what it left in its cache is found again by a next call of equal size. An exception
// of `work` is rethrown here.
//
// Calls of several threads share the pool. Its threads leave the processor of the last caller to
// that. Where the system starts no more threads, those that there are compute, and stderr says so
// once.
void parallel(int64_t parts, int threads, const std::function<void(const Take&)>& work);

// Calls part(0) ... part(parts - 1), each once, in the same way.
void parallel_for(int64_t parts, int threads, const std::function<void(int64_t)>& part);

}  // namespace bn3d
