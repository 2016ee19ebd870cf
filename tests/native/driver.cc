// Calls every entry point of the native library and compares it with plain loops of double:
//
//     driver LIBRARY [MOST]
//
// over dtypes, shapes (empty, small, split by channel, split by chunk, larger than the caches),
// kinds of data and alignments; thread counts and callers' floating-point environments all have
// to give the same bits. Then several callers at once, results in place of an input, and malformed
// calls. Ends with a digest of all
// results: instruction sets and processors are to agree in it. Volumes of more than MOST values
// are left out, for emulated processors, which are slow.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <limits>
#include <numeric>
#include <thread>

#include "bad_calls.h"
#include "calls.h"
#include "environment.h"
#include "judge.h"

namespace bn3d_test {
namespace {

class Report {
 public:
  void call() { ++calls_; }
  void fail(const std::string& text) {
    if (++failures_ <= 20) std::printf("FAILED: %s\n", text.c_str());
  }
  void digest(const Tensor& tensor) {
    for (int64_t i = 0; i < tensor.size(); ++i) {
      double value = tensor.get(i);
      if (std::isnan(value)) value = 12345;  // processors differ in a NaN's sign
      uint64_t bits;
      std::memcpy(&bits, &value, sizeof bits);
      digest_ = (digest_ ^ bits) * 0x100000001b3u;
    }
  }
  int finish(const Library& library) const {
    std::printf("%s: %d calls, %d failed, digest %016llx\n", library.instruction_set(), calls_,
                failures_, static_cast<unsigned long long>(digest_));
    return failures_ == 0 ? 0 : 1;
  }

 private:
  int calls_ = 0, failures_ = 0;
  uint64_t digest_ = 0xcbf29ce484222325u;
};

bool fits(Type type, double got, double value, double tolerance) {
  if (std::isnan(value) || std::isnan(tolerance)) return std::isnan(got) || std::isinf(got);
  if (std::isinf(value)) return got == value || std::isnan(got);
  if (std::isinf(tolerance)) return true;
  return rounded(type, value - tolerance) <= got && got <= rounded(type, value + tolerance);
}

void compare(const Case& c, const std::vector<Expected>& expected,
             const std::vector<Tensor*>& written, Report* report) {
  for (size_t o = 0; o < expected.size(); ++o) {
    for (int64_t i = 0; i < written[o]->size(); ++i) {
      const double got = written[o]->get(i);
      if (fits(written[o]->type, got, expected[o].values[i], expected[o].tolerances[i])) continue;
      char text[200];
      std::snprintf(text, sizeof text, ": output %zu [%lld] is %.17g, not %.17g ± %.3g", o,
                    static_cast<long long>(i), got, expected[o].values[i],
                    expected[o].tolerances[i]);
      report->fail(c.text() + text);
      return;
    }
  }
}

std::string all_bytes(const std::vector<Tensor*>& tensors) {
  std::string bytes;
  for (const Tensor* tensor : tensors) bytes += tensor->bytes();
  return bytes;
}

std::string run(const Library& library, const Case& c, Arguments* made) {
  library.call(c.entry->name, made->pointers());
  return all_bytes(made->written(*c.entry));
}

struct Caller {
  int threads;
  Environment environment;
};

// The first one starts the pool's threads, which inherit its environment.
constexpr Caller kCallers[] = {{8, Environment::kFlushing},
                               {1, Environment::kFlushing},
                               {2, Environment::kDefault},
                               {3, Environment::kUpward}};

// One case on one thread against the judge, then for other callers against the bits of that.
void check(const Library& library, const Case& c, Report* report) {
  const Arguments untouched = arguments(c);
  Arguments made = untouched.copy();
  const std::vector<Expected> expected = judge(c.entry->name, made.pointers());
  library.set_threads(1);
  const std::string bytes = run(library, c, &made);
  report->call();
  compare(c, expected, made.written(*c.entry), report);
  for (const Tensor* tensor : made.written(*c.entry)) report->digest(*tensor);

  const size_t updated = c.entry->name == std::string("Bn3dForwardTraining") ? 3 : 99;
  for (size_t i = 0; i < c.entry->inputs.size(); ++i) {
    if (i == updated || i == updated + 1) continue;
    if (made.tensors[i].bytes() != untouched.tensors[i].bytes()) {
      report->fail(c.text() + " changed its input " + std::to_string(i));
    }
  }
  for (const Caller& caller : kCallers) {
    library.set_threads(caller.threads);
    Arguments again = untouched.copy();
    const std::vector<Tensor*> tensors = again.pointers();
    report->call();
    bool unchanged;
    {
      const InEnvironment environment(caller.environment);
      library.call(c.entry->name, tensors);
      unchanged = environment.unchanged();
    }
    const std::string which = std::to_string(caller.threads) + " threads, environment " +
                              std::to_string(static_cast<int>(caller.environment));
    if (!unchanged) report->fail(c.text() + " changed its caller's: " + which);
    if (all_bytes(again.written(*c.entry)) != bytes) {
      report->fail(c.text() + " differs on " + which);
    }
  }
}

struct ShapeCase {
  Shape shape;
  bool all_data;  // or ordinary data alone
};

const std::vector<ShapeCase>& shapes() {
  static const std::vector<ShapeCase> all = {
      {{0, 3, 2, 2, 2}, true},     {{2, 3, 0, 4, 4}, true},
      {{2, 0, 4, 4, 4}, false},    {{1, 1, 1, 1, 1}, true},
      {{1, 4, 1, 1, 1}, true},     {{5, 3}, true},  // a rank without a volume
      {{2, 3, 33}, true},                           // parts of a vector
      {{3, 7, 3, 5, 7}, true},                      // gathered: the runs are short
      {{3, 5, 2, 4, 16}, true},                     // runs of whole groups
      {{64, 40, 1, 2, 3}, true},                    // groups of small channels
      {{2, 4, 13, 17, 19}, true},                   // by channel
      {{2, 3, 11, 41, 50}, true},   // by chunk: three channels on two or eight threads
      {{1, 1, 40, 50, 61}, false},  // by chunk: one channel
      {{1, 9, 1, 1, 7001}, false},  // several channels at once by chunk
  };
  return all;
}

// Written past the caches, one channel while the next one is read: 16 MB and a little more. With
// BN3D_STREAMED_BYTES=0 all others are, too.
Shape large(Type type) { return {2, 32 / size_of(type), 63, 65, 67}; }

int64_t values(const Shape& shape) {
  return std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>());
}

Case case_of(const EntryPoint& entry, Type type, const Shape& shape, Data data, uint64_t seed) {
  // Far and huge values have no room in 16-bit vectors.
  const bool narrow = data == Data::kOrdinary || data == Data::kSubnormal;
  const Type vectors = narrow     ? kFloatingTypes[seed % 4]
                       : seed % 2 ? Type::kFloat32
                                  : Type::kFloat64;
  const double momentum = seed % 5 == 0 ? 1 : seed % 5 == 1 ? 0 : 0.9;
  const bool no_eps = data == Data::kSteep || (data == Data::kConstant && seed % 2);
  const double eps = no_eps ? 0 : seed % 3 ? 1e-5 : 1e-3;
  return {&entry, type, vectors, shape, data, eps, momentum, static_cast<int64_t>(seed % 4), seed};
}

void compare_large(const Library& library, int64_t most, uint64_t* seed, Report* report) {
  for (const Type type : {Type::kFloat32, Type::kFloat16}) {
    if (values(large(type)) > most) continue;
    for (const EntryPoint& entry : entry_points()) {
      const std::string name = entry.name;
      if (name != "Bn3dForwardTraining" && name != "Bn3dGradientTraining") continue;
      check(library, case_of(entry, type, large(type), Data::kOrdinary, ++*seed), report);
    }
  }
}

void compare_all(const Library& library, int64_t most, Report* report) {
  uint64_t seed = 1;
  for (const ShapeCase& shape : shapes()) {
    if (values(shape.shape) > most) continue;
    for (const EntryPoint& entry : entry_points()) {
      for (const Type type : kFloatingTypes) {
        for (const Data data : kAllData) {
          if (data != Data::kOrdinary && !shape.all_data) continue;
          check(library, case_of(entry, type, shape.shape, data, ++seed), report);
        }
      }
    }
  }
  compare_large(library, most, &seed, report);
}

// Callers on threads of their own share the pool.
void call_at_once(const Library& library, int64_t most, Report* report) {
  library.set_threads(3);
  std::vector<Case> cases;
  for (const EntryPoint& entry : entry_points()) {
    for (const Type type : {Type::kFloat32, Type::kFloat16}) {
      const Shape shape = type == Type::kFloat32 ? Shape{2, 3, 20, 41, 50} : Shape{2, 64, 3, 20, 9};
      if (values(shape) > most) continue;
      cases.push_back({&entry, type, Type::kFloat32, shape, Data::kOrdinary, 1e-5, 0.9, 0, 77});
    }
  }
  std::vector<Arguments> all;
  std::vector<std::string> wanted;
  for (const Case& c : cases) {
    all.push_back(arguments(c));
    Arguments made = all.back().copy();
    wanted.push_back(run(library, c, &made));
  }
  constexpr int kThreads = 4, kRounds = 5;
  std::vector<int> wrong(kThreads);
  std::vector<std::thread> callers;
  for (int t = 0; t < kThreads; ++t) {
    callers.emplace_back([&, t] {
      for (size_t k = 0; k < kRounds * cases.size(); ++k) {
        const size_t i = (k * (t + 1) + t) % cases.size();
        Arguments made = all[i].copy();
        wrong[t] += run(library, cases[i], &made) != wanted[i];
        if (t == 0) library.set_threads(1 + static_cast<int>(k % 4));
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  for (int t = 0; t < kThreads; ++t) {
    for (size_t k = 0; k < kRounds * cases.size(); ++k) report->call();
    if (wrong[t] != 0) report->fail("callers at once got other results than one alone");
  }
}

// The volume that is written may be the one that is read.
void write_in_place(const Library& library, int64_t most, Report* report) {
  library.set_threads(3);
  for (const EntryPoint& entry : entry_points()) {
    const size_t output = entry.outputs.find('y');
    if (output == std::string::npos) continue;
    for (const Type type : kFloatingTypes) {
      std::vector<Shape> shapes = {{3, 7, 3, 5, 7}};
      if (type == Type::kFloat32) shapes.push_back(large(type));
      for (const Shape& shape : shapes) {
        if (values(shape) > most) continue;
        const Case c{&entry, type, Type::kFloat32, shape, Data::kOrdinary, 1e-5, 0.9, 0, 99};
        Arguments apart = arguments(c), in_place = arguments(c);
        run(library, c, &apart);
        Tensor* y = in_place.pointers()[entry.inputs.size() + output];
        y->data = in_place.tensors[0].data;
        run(library, c, &in_place);
        report->call();
        if (all_bytes(in_place.written(entry)) != all_bytes(apart.written(entry))) {
          report->fail(c.text() + " differs when it writes in place");
        }
      }
    }
  }
}

void refuse_bad_calls(const Library& library, Report* report) {
  for (const BadCall& bad : bad_calls()) {
    report->call();
    const std::string problem = bad.problem(library);
    if (!problem.empty()) report->fail(bad.name + ": " + problem);
  }
}

}  // namespace
}  // namespace bn3d_test

int main(int argc, char** argv) {
  using namespace bn3d_test;
  if (argc != 2 && argc != 3) {
    std::fprintf(stderr, "usage: %s LIBRARY [MOST]\n", argv[0]);
    return 2;
  }
  const int64_t most = argc == 3 ? std::atoll(argv[2]) : std::numeric_limits<int64_t>::max();
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  const Library library(argv[1]);
  Report report;
  compare_all(library, most, &report);
  call_at_once(library, most, &report);
  write_in_place(library, most, &report);
  refuse_bad_calls(library, &report);
  return report.finish(library);
}
