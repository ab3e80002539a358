// Plans the memory of a stream before it runs.
#pragma once

#include <cstdint>

#include "cache/kv_cache.h"

namespace sepllm {

struct KvPlan {
  int64_t peak_bytes = 0;      // of the slots that are held, including the chunk in flight
  int64_t reserved_bytes = 0;  // of the slots that there is memory for at the end; most of them are in use
};

// The plan of a stream of `tokens` tokens in chunks of up to `max_chunk`, of which `separator_share` are
// separators, evenly spread. The cache plans every chunk with its own code, without rows. With a share of 1
// the result is the most that a policy can need. Beyond some hundred thousand tokens (and four windows) a
// stream grows at a constant rate: the rest is extrapolated, and reserved_bytes is an upper bound.
KvPlan plan_kv(const KvLayout& layout, const Policy& policy, int64_t tokens, int64_t max_chunk,
               double separator_share);

// The most bytes that a cache can take for a stream of at most `tokens` tokens (which it was told:
// KvCache::expect_at_most) in chunks of up to `max_chunk`, whatever tokens they are, including those that it
// takes while it grows. For admission to a server: it takes no time, and is somewhat more than plan_kv's peak
// for a share of 1.
int64_t most_kv_bytes(const KvLayout& layout, const Policy& policy, int64_t tokens, int64_t max_chunk);
// The same for the state that KvCache::save_mark writes.
int64_t most_mark_bytes(const KvLayout& layout, const Policy& policy, int64_t tokens, int64_t max_chunk);

}  // namespace sepllm
