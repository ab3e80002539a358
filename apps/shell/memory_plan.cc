#include "apps/shell/memory_plan.h"

#include <algorithm>
#include <cstdint>

#include "cache/kv_plan.h"

namespace sepllm {
namespace {

int64_t activation_bytes(const ModelConfig& c, int64_t chunk) {
  // In use at the same time in a layer: the residual stream, its normed copy, the QKV row, the attention's
  // output, and the one or two wide rows of the MLP.
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
  plan.kv_bytes =
      plan_kv(layout, settings.policy, tokens, settings.prefill_chunk, separator_share).peak_bytes;
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
