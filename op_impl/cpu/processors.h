// How many threads are worth starting: the processors that this process may use.
#pragma once

#include <string>

namespace bn3d {

// Sets how many threads a call may use; 0 or less: as many as there are processors for.
void set_threads(int threads);

// Threads that the next call uses: what was set, but never more than the processors that the
// process may run on now, nor than its control group had time for when the library was loaded.
int usable_threads();

// Lets the calling thread run wherever the process may: a new thread may run only where the one
// that started it may, and MindSpore can bind that to one processor.
void run_where_the_process_may();

// The processors whose time the process's control group has, rounded up, or 0 for no limit. `root`
// comes before /proc and /sys, for tests.
int quota(const std::string& root);

}  // namespace bn3d
