// An (N, C, D, H, W) volume and how a call's work on it is split.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels.h"
#include "processors.h"
#include "thread_pool.h"

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
  bool streams() const { return bytes() >= kStreamedBytes; }

  static constexpr int64_t kStreamedBytes = int64_t{16} << 20;
};

// A channel's values are reduced chunk by chunk and the chunks' sums are added in their order,
// so the split over threads does not show in the result.
constexpr int64_t kChunk = 16 * kBlock;

inline int64_t chunks(const Volume& volume) { return (volume.values() + kChunk - 1) / kChunk; }

inline Range chunk_range(const Volume& volume, int64_t chunk) {
  const int64_t begin = chunk * kChunk, end = begin + kChunk;
  return {begin, end < volume.values() ? end : volume.values()};
}

// Work that is not worth a second thread.
constexpr int64_t kSerialBytes = int64_t{64} << 10;

inline int threads_for(const Volume& volume) {
  return volume.bytes() <= kSerialBytes ? 1 : usable_threads();
}

// Small channels go in groups, so that a part of the work is worth its scheduling.
inline int64_t channels_together(const Volume& volume) {
  constexpr int64_t kWorthwhile = 32 << 10;
  return 1 + kWorthwhile / (volume.channel_bytes() + 1);
}

inline void operator+=(ShiftedSums& sums, const ShiftedSums& more) {
  sums.sum += more.sum;
  sums.square_sum += more.square_sum;
}

inline void operator+=(GradSums& sums, const GradSums& more) {
  sums.dy += more.dy;
  sums.dy_centered += more.dy_centered;
}

// Runs, for each channel c, reduce(c, range) over its chunks, then finish(c, sum of the chunks'
// sums), then apply(c, range) over the chunks again, last ones first: those may still be cached.
//
// Where there are enough channels, each one stays with a thread, from memory to cache and back.
// Otherwise the threads share the chunks of as many channels as it takes to keep all busy.
template <typename Sums, typename Reduce, typename Finish, typename Apply>
void reduce_then_apply(const Volume& volume, Reduce reduce, Finish finish, Apply apply) {
  const int threads = threads_for(volume);
  const int64_t per_channel = chunks(volume), channels = volume.channels;

  // Threads that the last round leaves idle cost at most a tenth of the work.
  const int64_t rounds = (channels + threads - 1) / threads;
  const bool balanced = (rounds * threads - channels) * 10 <= channels;
  if (balanced) {
    const int64_t group = channels_together(volume);
    parallel_for((channels + group - 1) / group, threads, [&](int64_t part) {
      for (int64_t c = part * group; c < (part + 1) * group && c < channels; ++c) {
        Sums sums = {};
        for (int64_t i = 0; i < per_channel; ++i) sums += reduce(c, chunk_range(volume, i));
        finish(c, sums);
        for (int64_t i = per_channel - 1; i >= 0; --i) apply(c, chunk_range(volume, i));
      }
    });
    return;
  }

  const int64_t together = 1 + 4 * threads / (per_channel + 1);
  std::vector<Sums> sums(together * per_channel);
  for (int64_t first = 0; first < channels; first += together) {
    const int64_t now = first + together < channels ? together : channels - first;
    parallel_for(now * per_channel, threads, [&](int64_t part) {
      sums[part] = reduce(first + part / per_channel, chunk_range(volume, part % per_channel));
    });
    for (int64_t c = 0; c < now; ++c) {
      Sums total = {};
      for (int64_t i = 0; i < per_channel; ++i) total += sums[c * per_channel + i];
      finish(first + c, total);
    }
    const auto apply_part = [&](int64_t part) {
      apply(first + part / per_channel, chunk_range(volume, part % per_channel));
    };
    parallel_for(now * per_channel, threads, apply_part, Order::kLastFirst);
  }
}

// Runs apply(c, range) over all values of all channels.
template <typename Apply>
void apply_all(const Volume& volume, Apply apply) {
  const int64_t group = channels_together(volume), per_channel = chunks(volume);
  const int64_t groups = (volume.channels + group - 1) / group;
  parallel_for(groups * per_channel, threads_for(volume), [&](int64_t part) {
    const int64_t first = part / per_channel * group;
    for (int64_t c = first; c < first + group && c < volume.channels; ++c) {
      apply(c, chunk_range(volume, part % per_channel));
    }
  });
}

}  // namespace bn3d
