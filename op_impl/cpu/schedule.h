// How a call's work on a volume is shared out over threads, and in what order.
#pragma once

#include <algorithm>
#include <vector>

#include "processors.h"
#include "thread_pool.h"
#include "volume.h"

namespace bn3d {

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

template <typename Sums>
Sums total(const Sums* sums, int64_t count) {
  Sums total = {};
  for (int64_t i = 0; i < count; ++i) total += sums[i];
  return total;
}

// Runs work(c, range) for each chunk of all channels.
template <typename Work>
void for_each_chunk(const Volume& volume, Work work) {
  const int64_t group = channels_together(volume), per_channel = chunks(volume);
  const int64_t groups = (volume.channels + group - 1) / group;
  parallel_for(groups * per_channel, threads_for(volume), [&](int64_t part) {
    const int64_t first = part / per_channel * group;
    for (int64_t c = first; c < first + group && c < volume.channels; ++c) {
      work(c, chunk_range(volume, part % per_channel));
    }
  });
}

// Runs finish(c, sum of reduce(c, range) over the channel's chunks) for all channels.
template <typename Sums, typename Reduce, typename Finish>
void reduce_all(const Volume& volume, Reduce reduce, Finish finish) {
  const int64_t per_channel = chunks(volume);
  std::vector<Sums> sums(volume.channels * per_channel);
  for_each_chunk(volume, [&](int64_t c, Range range) {
    sums[c * per_channel + range.begin / kChunk] = reduce(c, range);
  });
  for (int64_t c = 0; c < volume.channels; ++c) {
    finish(c, total(sums.data() + c * per_channel, per_channel));
  }
}

// Each channel stays with a thread. Its chunks are applied last ones first: those may still be in
// the thread's own cache. Small channels are all reduced first: the processor goes on with the next
// one while it waits for a division of the last.
template <typename Sums, typename Reduce, typename Finish, typename Apply>
void channel_by_channel(const Volume& volume, Reduce reduce, Finish finish, Apply apply) {
  const int64_t group = channels_together(volume), per_channel = chunks(volume);
  const int64_t groups = (volume.channels + group - 1) / group;
  parallel_for(groups, threads_for(volume), [&](int64_t part) {
    const int64_t first = part * group, end = std::min(first + group, volume.channels);
    for (int64_t c = first; c < end; ++c) {
      Sums sums = {};
      for (int64_t i = 0; i < per_channel; ++i) sums += reduce(c, chunk_range(volume, i));
      finish(c, sums);
    }
    for (int64_t c = first; c < end; ++c) {
      for (int64_t i = per_channel - 1; i >= 0; --i) apply(c, chunk_range(volume, i));
    }
  });
}

// The same, but a thread reduces its next channel while it applies to one. No thread waits for
// another before the end: MindSpore's own ones take the processor from it for milliseconds.
template <typename Sums, typename Reduce, typename Finish, typename Apply, typename ReduceAndApply>
void channel_beside_channel(const Volume& volume, Reduce reduce, Finish finish, Apply apply,
                            ReduceAndApply reduce_and_apply) {
  const int64_t per_channel = chunks(volume);
  parallel(volume.channels, threads_for(volume), [&](const Take& take) {
    int64_t reduced = -1;
    for (int64_t c = take(); c >= 0; c = take()) {
      Sums sums = {};
      for (int64_t i = 0; i < per_channel; ++i) {
        const Range range = chunk_range(volume, i);
        sums += reduced < 0 ? reduce(c, range) : reduce_and_apply(c, reduced, range);
      }
      finish(c, sums);
      reduced = c;
    }
    for (int64_t i = 0; i < per_channel && reduced >= 0; ++i) {
      apply(reduced, chunk_range(volume, i));
    }
  });
}

// The threads share the chunks of so many channels at a time that all have enough to do. A step
// reduces these channels and applies to those of the step before.
template <typename Sums, typename Reduce, typename Finish, typename Apply, typename ReduceAndApply>
void step_by_step(const Volume& volume, Reduce reduce, Finish finish, Apply apply,
                  ReduceAndApply reduce_and_apply) {
  const int threads = threads_for(volume);
  const int64_t per_channel = chunks(volume), channels = volume.channels;
  const int64_t together = std::min(channels, 1 + 4 * threads / (per_channel + 1));
  std::vector<Sums> sums(together * per_channel);
  int64_t applied = 0, reduced = 0;  // channels
  while (applied < channels) {
    const int64_t next = std::min(reduced + together, channels);
    const int64_t to_apply = (reduced - applied) * per_channel;
    const int64_t to_reduce = (next - reduced) * per_channel;
    const auto part_of_step = [&](int64_t part) {
      const int64_t c = part / per_channel;
      const Range range = chunk_range(volume, part % per_channel);
      if (part >= to_reduce) {
        apply(applied + c, range);
      } else if (part >= to_apply) {
        sums[part] = reduce(reduced + c, range);
      } else {
        sums[part] = reduce_and_apply(reduced + c, applied + c, range);
      }
    };
    parallel_for(std::max(to_reduce, to_apply), threads, part_of_step);
    for (int64_t c = reduced; c < next; ++c) {
      finish(c, total(sums.data() + (c - reduced) * per_channel, per_channel));
    }
    applied = reduced;
    reduced = next;
  }
}

// Runs, for each channel c, reduce(c, range) over its chunks, then finish(c, sum of the chunks'
// sums), then apply(c, range) over the chunks again. reduce_and_apply(c, other, range) is to do the
// one for c and the other for a channel whose sums are there.
template <typename Sums, typename Reduce, typename Finish, typename Apply, typename ReduceAndApply>
void reduce_then_apply(const Volume& volume, Reduce reduce, Finish finish, Apply apply,
                       ReduceAndApply reduce_and_apply) {
  // Threads that the last round leaves idle cost at most a tenth of the work.
  const int64_t threads = threads_for(volume), channels = volume.channels;
  const int64_t rounds = (channels + threads - 1) / threads;
  const bool balanced = (rounds * threads - channels) * 10 <= channels;
  if (!balanced) {
    step_by_step<Sums>(volume, reduce, finish, apply, reduce_and_apply);
  } else if (volume.streams()) {
    channel_beside_channel<Sums>(volume, reduce, finish, apply, reduce_and_apply);
  } else {
    channel_by_channel<Sums>(volume, reduce, finish, apply);
  }
}

}  // namespace bn3d
