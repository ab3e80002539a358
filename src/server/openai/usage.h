// What an answer says about its cost: OpenAI's usage, llama.cpp's timings, and what the caches held.
#pragma once

#include <cstdint>

#include "attention/policy.h"
#include "base/json.h"
#include "cache/kv_cache.h"

namespace sepllm::server {

// Of all choices of a request.
struct Usage {
  int64_t prompt_tokens = 0;
  int64_t cached_tokens = 0;  // of these, not processed again
  int64_t new_tokens = 0;     // with the token that ended a text, as llama.cpp and vLLM count
  // Of the first choice.
  double prompt_seconds = 0.0, decode_seconds = 0.0, queue_seconds = 0.0;
  // Of the caches at the end.
  int64_t kv_bytes = 0, kv_full_bytes = 0;
  int64_t queries = 0, keys = 0, full_keys = 0;

  void add_cache(const KvCache& cache);
};

// {"prompt_tokens", "completion_tokens", "total_tokens", "prompt_tokens_details": {"cached_tokens"},
// "sepllm": {"policy", "kv_bytes", "kv_full_bytes", "kv_mean_keys", "kv_full_share"}}
Json usage_json(const Usage& usage, const PolicySettings& policy);
// llama.cpp's object "timings".
Json timings_json(const Usage& usage);

}  // namespace sepllm::server
