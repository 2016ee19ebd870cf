// How many threads are worth starting: the processors that this process may use.
#pragma once

#include <sched.h>

#include <string>

namespace bn3d {

// Sets how many threads a call may use; 0 or less: as many as there are processors for.
void set_threads(int threads);

// Threads that the next call uses: what was set, but never more than the processors that the
// process may run on now, nor than its control group had time for when the library was loaded.
int usable_threads();

// Where the process may run, less the processor that the calling thread is on now; false where that
// is nowhere or not known.
bool beside_the_caller(cpu_set_t* set);

// The processors whose time the process's control group has, rounded up, or 0 for no limit. `root`
// comes before /proc and /sys, for tests.
int quota(const std::string& root);

}  // namespace bn3d
