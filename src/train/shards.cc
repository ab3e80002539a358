#include "train/shards.h"

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

namespace sepllm {

std::vector<Shard> make_shards(int64_t size, int64_t rank, int64_t n_ranks) {
  // Small enough that the first buckets are sent long before the backward pass ends, large enough that the
  // time of a message is that of its bytes: at most 16 MiB, and a sixteenth of a small model.
  constexpr int64_t kLeast = 4096, kMost = int64_t{4} << 20;
  int64_t bucket = std::clamp((size / 16 + kLeast - 1) / kLeast * kLeast, kLeast, kMost);
  if (n_ranks == 1) bucket = size;
  std::vector<Shard> shards;
  int64_t state = 0;
  for (int64_t begin = 0; begin < size; begin += bucket) {
    const Part whole{begin, std::min(bucket, size - begin)};
    shards.push_back({whole, part_of(whole, rank, n_ranks), state});
    state += shards.back().own.n;
  }
  return shards;
}

int64_t state_size(std::span<const Shard> shards) {
  return shards.empty() ? 0 : shards.back().state_begin + shards.back().own.n;
}

}  // namespace sepllm
