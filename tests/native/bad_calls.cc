#include "bad_calls.h"

#include <exception>
#include <stdexcept>

#include "calls.h"

namespace bn3d_test {

namespace {

// A good call of an entry point that `spoil` then makes bad.
BadCall spoiled(const EntryPoint& entry, const std::string& what, const std::string& text,
                std::function<void(std::vector<Tensor*>*)> spoil) {
  return {std::string(entry.name) + " with " + what,
          [&entry, spoil](const Library& library) {
            Arguments made = arguments({&entry,
                                        Type::kFloat32,
                                        Type::kFloat32,
                                        {2, 3, 2, 2, 2},
                                        Data::kOrdinary,
                                        1e-5,
                                        0.9,
                                        0,
                                        5});
            std::vector<Tensor*> pointers = made.pointers();
            spoil(&pointers);
            library.call(entry.name, pointers);
          },
          text};
}

// Any two dimensions of these are too many elements for the 64 bits of a count.
constexpr int64_t kHugeDimension = int64_t{1} << 40;

void add_tensor_calls(const EntryPoint& entry, std::vector<BadCall>* calls) {
  const std::string kinds = entry.inputs + entry.outputs;
  for (size_t i = 0; i < kinds.size(); ++i) {
    const char kind = kinds[i];
    const std::string which = "tensor " + std::to_string(i);
    const auto add = [&](const std::string& what, const std::string& text, auto change) {
      calls->push_back(spoiled(entry, which + what, text,
                               [i, change](std::vector<Tensor*>* all) { change((*all)[i]); }));
    };
    add(" null", "has no data", [](Tensor* t) { t->data = nullptr; });
    add(" of another rank", "must", [](Tensor* t) { t->shape.assign(1, 8); });
    if (kind != 's' && kind != 'S' && kind != 'R') {
      add(" of dtype int64", "must", [](Tensor* t) { t->type = Type::kInt64; });
    } else {
      add(" of dtype float64", "must be int64", [](Tensor* t) { t->type = Type::kFloat64; });
    }
    add(" of other channels", "must", [](Tensor* t) {
      if (t->shape.size() > 1) t->shape[1] = 4;
      if (t->shape.size() == 1) t->shape[0] = 4;
    });
    if (kind == 'x' || kind == 'd' || kind == 'y') {
      add(" with a negative dimension", "must", [](Tensor* t) { t->shape[3] = -1; });
      add(" too large for 64 bits", "must", [](Tensor* t) {
        for (int64_t& d : t->shape) d = kHugeDimension;
      });
      add(" empty but too large for 64 bits", "must", [](Tensor* t) {
        for (int64_t& d : t->shape) d = kHugeDimension;
        t->shape[0] = 0;
      });
    }
  }
}

void add_calls(const EntryPoint& entry, std::vector<BadCall>* calls) {
  const std::string name = entry.name;
  calls->push_back(spoiled(entry, "a tensor less", "takes", [](auto* all) { all->pop_back(); }));
  calls->push_back(
      spoiled(entry, "a tensor more", "takes", [](auto* all) { all->push_back(all->back()); }));
  calls->push_back(spoiled(entry, "no tensors", "takes", [](auto* all) { all->clear(); }));

  const int count = static_cast<int>(entry.inputs.size() + entry.outputs.size());
  calls->push_back({name + " with null arrays",
                    [name, count](const Library& library) {
                      library.entry(name)(count, nullptr, nullptr, nullptr, nullptr, nullptr,
                                          nullptr);
                    },
                    "null"});
  calls->push_back({name + " with null shapes and dtypes",
                    [name, count](const Library& library) {
                      std::vector<void*> params(count);
                      std::vector<int> ndims(count, 5);
                      std::vector<int64_t*> shapes(count);
                      std::vector<const char*> dtypes(count);
                      library.entry(name)(count, params.data(), ndims.data(), shapes.data(),
                                          dtypes.data(), nullptr, nullptr);
                    },
                    "null"});
  calls->push_back({name + " with a negative rank",
                    [name, count](const Library& library) {
                      int64_t dimension = 1;
                      std::vector<void*> params(count);
                      std::vector<int> ndims(count, -1);
                      std::vector<int64_t*> shapes(count, &dimension);
                      std::vector<const char*> dtypes(count, "float32");
                      library.entry(name)(count, params.data(), ndims.data(), shapes.data(),
                                          dtypes.data(), nullptr, nullptr);
                    },
                    "must"});
}

}  // namespace

std::string BadCall::problem(const Library& library) const {
  try {
    call(library);
  } catch (const std::invalid_argument& error) {
    const std::string got = error.what();
    if (got.find(text) != std::string::npos) return "";
    return "says \"" + got + "\", without \"" + text + "\"";
  } catch (const std::exception& error) {
    return std::string("throws something else: ") + error.what();
  }
  return "was not refused";
}

std::vector<BadCall> bad_calls() {
  std::vector<BadCall> calls;
  for (const EntryPoint& entry : entry_points()) {
    add_tensor_calls(entry, &calls);
    add_calls(entry, &calls);
  }
  calls.push_back(
      {"Bn3dForwardTrainingInferShape with a scalar gamma",
       [](const Library& library) { library.infer("Bn3dForwardTraining", {{2, 3, 2, 2, 2}, {}}); },
       "'gamma' must"});
  return calls;
}

}  // namespace bn3d_test
