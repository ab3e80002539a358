// How much memory a model will need under a policy, before anything runs.
#pragma once

#include <cstdint>

#include "attention/policy.h"
#include "engine/model.h"

namespace sepllm {

struct MemoryPlan {
  int64_t tokens = 0;            // the planned length of the stream
  double separator_share = 0.0;  // the assumed share of separators among the tokens
  int64_t weights_bytes = 0;     // mapped from the checkpoint, or converted when loaded
  bool weights_mapped = true;
  int64_t kv_bytes_per_token = 0;  // one slot in every layer
  int64_t kv_bytes = 0;            // at the peak, including the chunk in flight
  int64_t full_kv_bytes = 0;       // the bytes that full attention would hold
  int64_t activation_bytes = 0;    // activations of one chunk, and a row of logits
};

// The share of separators in English text under the text rule, used only for the plan (16.5 % was counted in
// books with Pythia's tokenizer).
inline constexpr double kAssumedSeparatorShare = 0.165;

// Bytes of the keys and values under full attention, which no policy exceeds.
int64_t full_kv_bytes(const ModelConfig& config, const PolicySettings& settings, int64_t tokens);
// The plan of keys, values and activations.
MemoryPlan plan_cache(const ModelConfig& config, const PolicySettings& settings, int64_t tokens,
                      double separator_share);
// The same plan with the weights.
MemoryPlan plan_memory(const Model& model, const PolicySettings& settings, int64_t tokens,
                       double separator_share);

}  // namespace sepllm
