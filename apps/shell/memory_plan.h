// How much memory a model will need under a policy, before anything runs.
#pragma once

#include <cstdint>

#include "attention/policy.h"
#include "engine/model.h"

namespace sepllm {

struct MemoryPlan {
  int64_t tokens = 0;            // length of the stream that is planned for
  double separator_share = 0.0;  // of the tokens: an assumption
  int64_t weights_bytes = 0;     // mapped from the checkpoint, or converted at load
  bool weights_mapped = true;
  int64_t kv_bytes_per_token = 0;  // one slot in every layer
  int64_t kv_bytes = 0;            // at the peak, the chunk in flight included
  int64_t full_kv_bytes = 0;       // what full attention would hold
  int64_t activation_bytes = 0;    // of one chunk, and a row of logits
};

// Share of separators in English text under the text rule, for the plan only (16.5 % was counted on books
// with Pythia's tokenizer).
inline constexpr double kAssumedSeparatorShare = 0.165;

// Bytes of the keys and values under full attention, which no policy exceeds.
int64_t full_kv_bytes(const ModelConfig& config, const PolicySettings& settings, int64_t tokens);
// The plan of the keys, values and activations.
MemoryPlan plan_cache(const ModelConfig& config, const PolicySettings& settings, int64_t tokens,
                      double separator_share);
// The plan of these and the weights.
MemoryPlan plan_memory(const Model& model, const PolicySettings& settings, int64_t tokens,
                       double separator_share);

}  // namespace sepllm
