// An (N, C, D, H, W) volume and the pieces in which its channels are worked on.
#pragma once

#include <cstdint>

#include "dispatch.h"

namespace bn3d {

struct Volume {
  int64_t batch, channels, slab;  // N, C, D*H*W
  DType dtype;

  int64_t values() const { return batch * slab; }  // of one channel
  int64_t element_size() const {
    return dtype == DType::kFloat64 ? 8 : dtype == DType::kFloat32 ? 4 : 2;
  }
  int64_t bytes() const { return batch * channels * slab * element_size(); }
  int64_t channel_bytes() const { return values() * element_size(); }
  ChannelLayout layout() const { return {batch, slab, channels * slab}; }

  const void* channel(const void* data, int64_t c) const {
    return static_cast<const char*>(data) + c * slab * element_size();
  }
  void* channel(void* data, int64_t c) const {
    return static_cast<char*>(data) + c * slab * element_size();
  }

  // Outputs that exceed the caches are written past them: they would be evicted anyway, after
  // having cost a read for ownership and the eviction of inputs.
  bool streams() const { return bytes() >= streamed_bytes(); }
};

// A channel's values are reduced chunk by chunk and the chunks' sums are added in their order, so
// the split over threads does not show in the result. The sums of a range depend on where it begins
// and ends: whatever shares out the work must reduce these chunks.
constexpr int64_t kChunk = 16 * kBlock;

inline int64_t chunks(const Volume& volume) { return (volume.values() + kChunk - 1) / kChunk; }

inline Range chunk_range(const Volume& volume, int64_t chunk) {
  const int64_t begin = chunk * kChunk, end = begin + kChunk;
  return {begin, end < volume.values() ? end : volume.values()};
}

}  // namespace bn3d
