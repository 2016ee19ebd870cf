// What the four prototypes share: the checks of their inputs and the shapes of their outputs.
//
// Every operator takes volumes (x, dy) of one shape and dtype and float32 vectors with one value
// a channel. Unknown dimensions (-1) and an unknown rank (-2) agree with everything; where one
// input knows what another doesn't, the outputs take what is known.
//
// The channel axis by format: NCDHW and ND (which is raw NCDHW: MindSpore's kernel-by-kernel path
// names no format) 1; NDC1HWC0 is (N, D, C1, H, W, C0) with vectors (1, 1, C1, 1, 1, C0).
// NDHWC is refused: the graph engine lets a tensor of any origin format into an ND kernel
// untransformed, and ours would take W for H and H for C.
#ifndef BN3D_OP_PROTO_BN3D_INPUTS_H_
#define BN3D_OP_PROTO_BN3D_INPUTS_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "graph/operator.h"
#include "graph/types.h"

namespace bn3d {

class Inputs {
 public:
  // Reads and checks the inputs of `op`; the first error is reported to the graph engine.
  Inputs(const ge::Operator& op, const char* op_type, const std::vector<const char*>& volumes,
         const std::vector<const char*>& vectors);

  bool valid() const { return valid_; }

  // Writes the description of an output of a volume's shape, dtype and format.
  ge::graphStatus UpdateVolume(ge::Operator& op, const char* output) const;

  // Writes the description of a float32 output with one value a channel.
  ge::graphStatus UpdateVector(ge::Operator& op, const char* output) const;

 private:
  using Dims = std::vector<int64_t>;
  using Ranges = std::vector<std::pair<int64_t, int64_t>>;

  bool AddVolume(const ge::Operator& op, const char* name);
  bool AddVector(const ge::Operator& op, const char* name);
  bool MatchChannels(const char* volume);
  bool Merge(const char* name, const Dims& dims, const char* earlier, Dims* known) const;
  bool Fail(const std::string& message) const;
  ge::graphStatus Update(ge::Operator& op, const char* output, const Dims& dims, ge::DataType dtype,
                         Ranges ranges) const;

  const char* op_type_;
  const char* first_volume_ = nullptr;
  const char* first_vector_ = nullptr;
  bool valid_ = true;
  ge::Format format_ = ge::FORMAT_ND;
  ge::DataType dtype_ = ge::DT_FLOAT;
  Dims volume_;  // {-2}: unknown rank
  Dims vector_;
  Ranges ranges_;  // of the first volume's dimensions, empty if unknown
};

}  // namespace bn3d

#endif  // BN3D_OP_PROTO_BN3D_INPUTS_H_
