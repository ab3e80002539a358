#include "apps/shell/memory_plan.h"

#include <algorithm>
#include <cmath>

#include "cache/kv_cache.h"

namespace sepllm {
namespace {

int64_t activation_bytes(const ModelConfig& c, int64_t chunk) {
  // Live at once in a layer: the residual stream, its normed copy, the QKV row, the attention's output, and
  // the one or two wide rows of the MLP.
  const int64_t row =
      3 * c.hidden_size + c.qkv_dim() + c.n_heads * c.head_dim + (c.gated_mlp ? 2 : 1) * c.intermediate_size;
  return (chunk * row + c.vocab_size) * static_cast<int64_t>(sizeof(float));
}

KvLayout layout_of(const ModelConfig& c, const PolicySettings& settings) {
  return {c.n_layers, c.n_kv_heads, c.head_dim, settings.kv};
}

int64_t slot_bytes(const ModelConfig& c, const PolicySettings& settings) {
  return KvCache(layout_of(c, settings), settings.policy, TokenSet(c.vocab_size)).slot_bytes();
}

}  // namespace

int64_t planned_slots(const Policy& policy, int64_t layer, int64_t n_layers, int64_t tokens, int64_t chunk,
                      double separator_share) {
  const auto separators = static_cast<int64_t>(std::ceil(separator_share * static_cast<double>(tokens)));
  if (policy.kind == PolicyKind::kSepStream) {
    const int64_t excess = policy.seps_unbounded ? std::max<int64_t>(0, separators - policy.seps) : 0;
    return std::min(tokens, policy.capacity + 1 + excess);
  }
  const int64_t window = policy.window_of(layer, n_layers);
  if (window >= tokens) return tokens;
  int64_t kept = policy.init;
  if (policy.kind == PolicyKind::kSep) kept += separators;
  if (policy.kind == PolicyKind::kFixed) kept += tokens / policy.interval;
  return std::min(tokens, kept + window - 1 + std::min(chunk, tokens));
}

int64_t full_kv_bytes(const ModelConfig& config, const PolicySettings& settings, int64_t tokens) {
  return slot_bytes(config, settings) * config.n_layers * tokens;
}

MemoryPlan plan_cache(const ModelConfig& config, const PolicySettings& settings, int64_t tokens,
                      double separator_share) {
  const KvLayout layout = layout_of(config, settings);
  const int64_t slot = slot_bytes(config, settings);
  MemoryPlan plan;
  plan.tokens = tokens;
  plan.separator_share = separator_share;
  plan.kv_bytes_per_token = slot * layout.n_layers;
  plan.full_kv_bytes = plan.kv_bytes_per_token * tokens;
  for (int64_t l = 0; l < layout.n_layers; ++l) {
    plan.kv_bytes += slot * planned_slots(settings.policy, l, layout.n_layers, tokens, settings.prefill_chunk,
                                          separator_share);
  }
  plan.activation_bytes = activation_bytes(config, std::min(settings.prefill_chunk, tokens));
  return plan;
}

MemoryPlan plan_memory(const Model& model, const PolicySettings& settings, int64_t tokens,
                       double separator_share) {
  MemoryPlan plan = plan_cache(model.config(), settings, tokens, separator_share);
  const ModelWeights& weights = model.decoder.weights();
  plan.weights_mapped = weights.matrices.empty();
  plan.weights_bytes = plan.weights_mapped ? weights.store.total_bytes() : weight_bytes(weights);
  return plan;
}

}  // namespace sepllm
