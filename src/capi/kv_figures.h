// A cache's figures as the C interface gives them.
#pragma once

#include <sepllm/sepllm.h>

#include "cache/kv_cache.h"

namespace sepllm::capi {

inline sepllm_kv_stats stats_of(const KvCache& cache) {
  const KvStats s = cache.stats();
  return {.queries = s.queries,
          .keys = s.keys,
          .full_keys = s.full_keys,
          .peak_keys = s.peak_keys,
          .held_bytes = cache.held_bytes(),
          .peak_bytes = s.peak_bytes,
          .full_bytes = s.full_bytes,
          .reserved_bytes = s.reserved_bytes,
          .mean_keys = s.mean_keys(),
          .mean_share = s.mean_share()};
}

}  // namespace sepllm::capi
