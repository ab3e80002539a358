// What the architectures that came after Llama share with it.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/error.h"
#include "model/families/common.h"
#include "model/gguf/architecture.h"

namespace sepllm {

Json gguf_llama_form(const GgufKeys& keys, const char* model_type) {
  const int64_t n_heads = keys.size("attention.head_count", kMaxHeads);
  const int64_t hidden = keys.size("embedding_length", kMaxHidden);
  const int64_t head_dim =
      keys.size_or("attention.key_length", std::max<int64_t>(hidden / n_heads, 1), kMaxHeadDim);
  for (const char* key : {"attention.value_length", "rope.dimension_count"})
    keys.require(key, static_cast<double>(head_dim));
  keys.require("expert_count", 0.0);
  Json out = {{"model_type", model_type},
              {"hidden_size", hidden},
              {"num_hidden_layers", keys.size("block_count", kMaxLayers)},
              {"intermediate_size", keys.size("feed_forward_length", kMaxIntermediate)},
              {"num_attention_heads", n_heads},
              {"num_key_value_heads", keys.size_or("attention.head_count_kv", n_heads, n_heads)},
              {"head_dim", head_dim},
              {"max_position_embeddings", keys.size("context_length", kMaxPositions)},
              {"rms_norm_eps", keys.number("attention.layer_norm_rms_epsilon")},
              {"hidden_act", "silu"},
              {"rope_theta", keys.number_or("rope.freq_base", 10000.0)}};
  if (Json scaling = gguf_rope_scaling(keys); !scaling.is_null()) out["rope_scaling"] = std::move(scaling);
  return out;
}

void gguf_write_llama_form(const ModelConfig& c, GgufTarget* target) {
  if (c.activation != Activation::kSilu) target->refuse("another activation than silu");
  if (!c.own_windows().empty()) target->refuse("a sliding window of its own");
  gguf_write_head_dim(c, target);
  gguf_write_rope(c, target);
}

void gguf_write_head_dim(const ModelConfig& c, GgufTarget* target) {
  for (const char* key : {"attention.key_length", "attention.value_length"})
    target->model->fields.u32(target->prefix + key, static_cast<uint32_t>(c.head_dim));
}

void gguf_pair_queries_and_keys(ModelSpec* spec) {
  const ModelConfig& c = spec->config;
  const RowOrder q = paired_rows(c.n_heads, c.head_dim), k = paired_rows(c.n_kv_heads, c.head_dim);
  for (const LayerNames& layer : spec->names.layers) {
    set_row_order(layer.qkv[0], q, spec);
    set_row_order(layer.qkv[1], k, spec);
  }
}

double gguf_rotated_share(int64_t dim, int64_t head_dim) {
  double share = static_cast<double>(dim) / static_cast<double>(head_dim);
  while (static_cast<int64_t>(share * static_cast<double>(head_dim)) < dim)
    share = std::nextafter(share, 2.0);
  return share;
}

std::vector<float> gguf_factors(const WeightStore& store, const char* name, int64_t n) {
  const StoredTensor& t = store.tensor(name);
  if (t.type != DType::kF32 || t.shape != std::vector<int64_t>{n}) {
    throw Error(ErrorCode::kBadFile, "wrong factors of rope frequencies",
                {.file = t.file, .place = t.name, .expected = fmt::format("F32 [{}]", n), .got = t.dtype});
  }
  std::vector<float> factors(static_cast<size_t>(n));
  if (n > 0) std::memcpy(factors.data(), t.data, factors.size() * sizeof(float));
  for (size_t i = 0; i < factors.size(); ++i) {
    if (std::isfinite(factors[i]) && factors[i] > 0) continue;
    throw Error(ErrorCode::kBadFile, "wrong factor of a rope frequency",
                {.file = t.file,
                 .place = fmt::format("{}, element {}", name, i),
                 .expected = "a positive number",
                 .got = fmt::format("{}", factors[i])});
  }
  return factors;
}

const Json& gguf_scaling_of(const Json& config) {
  const Json* scaling = nullptr;
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    const auto found = config.find(key);
    if (scaling == nullptr && found != config.end() && found->is_object() && !found->empty())
      scaling = &*found;
  }
  SEPLLM_CHECK(scaling != nullptr);
  return *scaling;
}

}  // namespace sepllm
