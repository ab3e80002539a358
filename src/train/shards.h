// Which elements of a model's parameters a rank keeps the optimiser's state of (ZeRO-1): the buffer is cut
// into buckets, which travel one after the other, and of each bucket every rank owns a part.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "train/comm.h"

namespace sepllm {

struct Shard {
  Part bucket;              // elements of the buffer
  Part own;                 // of them, this rank's
  int64_t state_begin = 0;  // where its moments lie, in a buffer of state_size() elements
};

// Of a buffer of `size` elements, in ascending order without gaps; one rank has one bucket.
std::vector<Shard> make_shards(int64_t size, int64_t rank, int64_t n_ranks);
// Elements that this rank owns.
int64_t state_size(std::span<const Shard> shards);

}  // namespace sepllm
