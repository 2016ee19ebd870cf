// Threads that are started once and share the parts of one call at a time.
#pragma once

#include <cstdint>
#include <functional>

namespace bn3d {

// Sets how many threads a call may use; 0 or less: as many as the process may run on.
void set_threads(int threads);

// Threads that the next call uses: what was set, never more than the process may run on now.
int usable_threads();

enum class Order { kFirstFirst, kLastFirst };

// Calls part(0) ... part(parts - 1), each once, on up to `threads` threads, the caller's
// included, and returns when all are done. A thread takes a contiguous share of the parts first,
// the same for the same (parts, threads), then helps others: what it left in its cache is found
// again by a next call of equal size, best in the opposite order. An exception in a part is
// rethrown here.
void parallel_for(int64_t parts, int threads, const std::function<void(int64_t)>& part,
                  Order order = Order::kFirstFirst);

}  // namespace bn3d
