// Which elements of a model's parameters a rank keeps the optimiser's state for (ZeRO-1): the buffer is cut
// into buckets, which are sent one after the other, and every rank owns a part of each bucket.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "train/comm.h"

namespace sepllm {

struct Shard {
  Part bucket;              // elements of the buffer
  Part own;                 // this rank's part of it
  int64_t state_begin = 0;  // where its moments lie, in a buffer of state_size() elements
};

// The shards of a buffer of `size` elements, ascending and without gaps; with one rank there is one bucket.
std::vector<Shard> make_shards(int64_t size, int64_t rank, int64_t n_ranks);
// The number of elements that this rank owns.
int64_t state_size(std::span<const Shard> shards);

}  // namespace sepllm
