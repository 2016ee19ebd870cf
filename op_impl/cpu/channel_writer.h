// Writing one channel's values: all at once, or some at a time beside the reduction of another.
#pragma once

#include "channel.h"

namespace bn3d {
namespace BN3D_ISA {

// Writes y[i] = compute(i, lanes) for a range of a channel's values: compute gives the vector that
// starts at element i, of which `lanes` are wanted, and fetches ahead what it is made of. Streaming
// writes go past the caches.
template <typename T, bool kStreaming, typename ComputeAt>
class ChannelWriter {
  using F = Compute<T>;
  static constexpr int kVector = kLanes<F>, kGroup = PartialSums<F>::kWidth;

 public:
  BN3D_INLINE ChannelWriter(void* y, ChannelLayout layout, Range range, ComputeAt compute)
      : y_(static_cast<T*>(y)), compute_(compute), pieces_(layout, range) {
    next_run();
  }

  // As many values as a reduction takes in at a time; fewer at the end of a run.
  BN3D_INLINE void write_group() {
    if (end_ - at_ < kGroup) return write_rest_of_run();
    compute_.template fetch<kStreaming>(at_, kGroup);
#pragma GCC unroll 16
    for (int k = 0; k < kGroup; k += kVector) write_vector(at_ + k);
    at_ += kGroup;
  }

  BN3D_INLINE void write_rest() {
    while (at_ < end_ || pieces_.left() > 0) write_group();
    if constexpr (kStreaming) stream_fence();
  }

 private:
  BN3D_INLINE void write_vector(int64_t i) {
    const auto packed = pack(compute_(i, kVector), y_);
    if constexpr (kStreaming) {
      stream(y_ + i, packed);
    } else {
      memcpy(y_ + i, &packed, sizeof packed);
    }
  }

  BN3D_INLINE void write_part(int64_t lanes) {
    const auto packed = pack(compute_(at_, lanes), y_);
    memcpy(y_ + at_, &packed, lanes * sizeof(T));
    at_ += lanes;
  }

  BN3D_INLINE void write_rest_of_run() {
    for (; end_ - at_ >= kVector; at_ += kVector) write_vector(at_);
    if (at_ < end_) write_part(end_ - at_);
    next_run();
  }

  BN3D_INLINE void next_run() {
    if (pieces_.left() == 0) return;
    const int64_t count = pieces_.next(pieces_.left(), &at_);
    end_ = at_ + count;
    if constexpr (kStreaming) {
      constexpr int kAligned = kVector * sizeof(T);
      const uintptr_t misaligned = reinterpret_cast<uintptr_t>(y_ + at_) % kAligned;
      if (misaligned) write_part(smaller(count, (kAligned - misaligned) / sizeof(T)));
    }
  }

  T* y_;
  ComputeAt compute_;
  Pieces pieces_;             // after this run
  int64_t at_ = 0, end_ = 0;  // in this run
};

// Writes a whole range.
template <typename T, typename ComputeAt>
BN3D_INLINE void write(void* y, ChannelLayout layout, Range range, bool streaming,
                       ComputeAt compute) {
  if (streaming) {
    ChannelWriter<T, true, ComputeAt>(y, layout, range, compute).write_rest();
  } else {
    ChannelWriter<T, false, ComputeAt>(y, layout, range, compute).write_rest();
  }
}

// What a reduction that runs alone has beside it.
struct Nothing {
  BN3D_INLINE void write_group() {}
};

}  // namespace BN3D_ISA
}  // namespace bn3d
