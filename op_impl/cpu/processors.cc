#include "processors.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <fstream>
#include <sstream>
#include <thread>

namespace bn3d {

namespace {

std::atomic<int> threads_set{0};

// Where the process may run is where its main thread may: `taskset`, a container's cpuset and
// `os.sched_setaffinity` set that. The calling thread may be one that MindSpore bound.
bool affinity(cpu_set_t* set) { return sched_getaffinity(getpid(), sizeof *set, set) == 0; }

// The limit of one group: cpu.max is "QUOTA PERIOD" or "max PERIOD", in version 1 a quota of -1
// is none.
double processors_of(const std::string& group) {
  double quota = 0, period = 0;
  if (std::ifstream(group + "/cpu.max") >> quota >> period && period > 0) return quota / period;
  std::ifstream(group + "/cpu.cfs_quota_us") >> quota;
  std::ifstream(group + "/cpu.cfs_period_us") >> period;
  return quota > 0 && period > 0 ? quota / period : 0;
}

bool controls_cpu(const std::string& controllers) {
  return ("," + controllers + ",").find(",cpu,") != std::string::npos;
}

}  // namespace

void set_threads(int threads) { threads_set = threads; }

int quota(const std::string& root) {
  double least = 0;
  std::ifstream groups(root + "/proc/self/cgroup");
  // Lines are HIERARCHY:CONTROLLERS:PATH, for version 2 0::PATH.
  for (std::string line; std::getline(groups, line);) {
    std::istringstream fields(line);
    std::string hierarchy, controllers, path;
    std::getline(fields, hierarchy, ':');
    std::getline(fields, controllers, ':');
    std::getline(fields, path);
    const bool second_version = hierarchy == "0" && controllers.empty();
    if (!second_version && !controls_cpu(controllers)) continue;
    const std::string mount = root + (second_version ? "/sys/fs/cgroup" : "/sys/fs/cgroup/cpu");
    // A group has no more than those around it. In a container the path may be the host's, of
    // which only the container's own group is there, as the mount itself.
    while (true) {
      const double processors = processors_of(mount + path);
      if (processors > 0 && (least == 0 || processors < least)) least = processors;
      if (path.empty()) break;
      path.erase(path.rfind('/') == std::string::npos ? 0 : path.rfind('/'));
    }
  }
  return static_cast<int>(std::min(std::ceil(least), 1e6));
}

// Files are not read again for each call.
static const int quota_at_load = quota("");

int usable_threads() {
  cpu_set_t set;
  // More processors than cpu_set_t holds cannot be counted by it.
  int threads =
      affinity(&set) ? CPU_COUNT(&set) : static_cast<int>(std::thread::hardware_concurrency());
  if (quota_at_load > 0) threads = std::min(threads, quota_at_load);
  const int wanted = threads_set;
  if (wanted > 0) threads = std::min(threads, wanted);
  return std::max(threads, 1);
}

bool beside_the_caller(cpu_set_t* set) {
  if (!affinity(set)) return false;
  const int here = sched_getcpu();
  if (here >= 0) CPU_CLR(here, set);
  return CPU_COUNT(set) > 0;
}

}  // namespace bn3d
