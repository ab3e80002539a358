// Phi-3, 3.5 and 4-mini in GGUF: fused matrices as in the folder (ffn_up holds gate and up), and LongRoPE's
// factors as tensors. (llama.cpp's convert_hf_to_gguf.py, Phi3MiniModel.)
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "model/families/common.h"
#include "model/gguf/architecture.h"

namespace sepllm {
namespace {

constexpr const char* kLong = "rope_factors_long.weight";
constexpr const char* kShort = "rope_factors_short.weight";

Json phi3_config(const GgufKeys& keys, const WeightStore& store) {
  const int64_t n_heads = keys.size("attention.head_count", kMaxHeads);
  const int64_t hidden = keys.size("embedding_length", kMaxHidden);
  const int64_t head_dim = std::max<int64_t>(hidden / n_heads, 1);
  const int64_t context = keys.size("context_length", kMaxPositions);
  const int64_t trained = keys.size_or("rope.scaling.original_context_length", context, kMaxPositions);
  const int64_t rotated = keys.size_or("rope.dimension_count", head_dim, head_dim);
  Json out = {{"model_type", "phi3"},
              {"hidden_size", hidden},
              {"num_hidden_layers", keys.size("block_count", kMaxLayers)},
              {"intermediate_size", keys.size("feed_forward_length", kMaxIntermediate)},
              {"num_attention_heads", n_heads},
              {"num_key_value_heads", keys.size_or("attention.head_count_kv", n_heads, n_heads)},
              {"max_position_embeddings", context},
              {"original_max_position_embeddings", trained},
              {"rms_norm_eps", keys.number("attention.layer_norm_rms_epsilon")},
              {"hidden_act", "silu"},
              {"rope_theta", keys.number_or("rope.freq_base", 10000.0)},
              {"sliding_window", nullptr}};
  if (rotated != head_dim) out["partial_rotary_factor"] = gguf_rotated_share(rotated, head_dim);
  if (const int64_t window =
          keys.metadata().integer_or(keys.of("attention.sliding_window"), 0, 0, kMaxPositions);
      window > 0)
    out["sliding_window"] = window;
  if (store.has(kLong) != store.has(kShort))
    throw Error(ErrorCode::kNotFound, "only one of the two lists of rope factors",
                {.file = store.folder(), .place = store.has(kLong) ? kShort : kLong});
  if (!store.has(kLong)) return out;
  Json scaling = {{"rope_type", "longrope"},
                  {"short_factor", gguf_factors(store, kShort, rotated / 2)},
                  {"long_factor", gguf_factors(store, kLong, rotated / 2)}};
  const double factor = static_cast<double>(context) / static_cast<double>(trained);
  const double usual =
      factor <= 1 ? 1 : std::sqrt(1 + std::log(factor) / std::log(static_cast<double>(trained)));
  const double stated = keys.number_or("rope.scaling.attn_factor", usual);
  if (std::abs(stated - usual) > 1e-5 * usual) scaling["attention_factor"] = stated;
  out["rope_scaling"] = std::move(scaling);
  return out;
}

void phi3_adapt(ModelSpec* spec) {
  for (const char* name : {kLong, kShort}) spec->ignored_suffixes.push_back(std::string(".") + name);
}

GgufExtraTensor factors(const char* name, const Json& list) { return {name, list.get<std::vector<float>>()}; }

void phi3_write(const ModelConfig& c, GgufTarget* target) {
  if (c.activation != Activation::kSilu) target->refuse("another activation than silu");
  GgufFields& fields = target->model->fields;
  const std::vector<int64_t> windows = c.own_windows();
  fields.u32(target->prefix + "attention.sliding_window",
             static_cast<uint32_t>(windows.empty() ? 0 : windows.front()));
  const RopeConfig& rope = c.ropes.at(0);
  fields.u32(target->prefix + "rope.dimension_count", static_cast<uint32_t>(rope.dim));
  fields.f32(target->prefix + "rope.freq_base", static_cast<float>(rope.theta));
  if (!rope.longrope) return;
  fields.u32(target->prefix + "rope.scaling.original_context_length",
             static_cast<uint32_t>(rope.longrope->trained_length));
  fields.f32(target->prefix + "rope.scaling.attn_factor", static_cast<float>(rope.attention_factor));
  const Json& scaling = gguf_scaling_of(target->config);
  target->model->extra.push_back(factors(kLong, scaling["long_factor"]));
  target->model->extra.push_back(factors(kShort, scaling["short_factor"]));
}

}  // namespace

const GgufArchitecture& gguf_phi3() {
  static const GgufArchitecture kArchitecture = {"phi3", {"phi3"}, phi3_config, phi3_adapt, phi3_write};
  return kArchitecture;
}

}  // namespace sepllm
