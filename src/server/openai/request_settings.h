// What requests for completions and for chat have in common.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine/sampler.h"
#include "server/openai/fields.h"
#include "server/openai/served_models.h"

namespace sepllm::server {

struct RequestSettings {
  const ServedModel* model = nullptr;
  PolicySettings policy;
  SamplingSettings sampling;
  int64_t n = 1;
  std::vector<std::string> stops{};
  std::optional<int64_t> max_tokens{};
  int64_t n_top = -1;  // scores: -1 none, 0 only of the chosen token, k: and the k most likely
  bool stream = false;
  bool include_usage = false;  // the usage of a stream
  bool include_cache = false;  // a stream says now and then what the cache holds (ours)
  bool ignore_eos = false;
  bool skip_special = true;  // special tokens give no text
  bool reuse_prefix = true;
};

// Reads them; `logprobs` is left to the endpoints, which write it in different ways. `defaults`: for what the
// request leaves open; `vocab_size`: for logit_bias. ApiError for what is wrong, and for what would change
// the answer and does not exist here.
RequestSettings read_settings(const Fields& request, const ServedModels& models,
                              const SamplingSettings& defaults, int64_t vocab_size);

}  // namespace sepllm::server
