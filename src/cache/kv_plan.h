// What a stream will take, before it runs.
#pragma once

#include <cstdint>

#include "cache/kv_cache.h"

namespace sepllm {

struct KvPlan {
  int64_t peak_bytes = 0;      // of the slots that are held, the chunk in flight included
  int64_t reserved_bytes = 0;  // of the slots that there is memory for at the end, most of them in use
};

// Of a stream of `tokens` tokens in chunks of up to `max_chunk`, of which `separator_share` are separators,
// evenly spread: the cache's own plan of every chunk, without rows. With a share of 1 it is the most that a
// policy can come to. Beyond some hundred thousand tokens (and four windows), where a stream grows at the
// same rate for ever, the rest is extrapolated, and what is reserved is an upper bound.
KvPlan plan_kv(const KvLayout& layout, const Policy& policy, int64_t tokens, int64_t max_chunk,
               double separator_share);

}  // namespace sepllm
