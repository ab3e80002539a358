// Gemma 3, text, in GGUF: norm weights are stored with 1 added. (llama.cpp's convert_hf_to_gguf.py,
// Gemma3Model.) The file says neither which layers are local nor their rope: every sixth layer is global and
// local ones have the base 10,000, as llama.cpp has it.

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "model/families/common.h"
#include "model/gguf/architecture.h"

namespace sepllm {
namespace {

constexpr int64_t kPattern = 6;
constexpr double kLocalTheta = 10000.0;
constexpr int64_t kLayersOf27B = 62;  // whose scores have a scale of their own in llama.cpp

// HF's query_pre_attn_scalar.
int64_t score_scalar(int64_t n_layers, int64_t hidden, int64_t n_heads, int64_t head_dim) {
  return n_layers == kLayersOf27B ? hidden / n_heads : head_dim;
}

Json gemma3_config(const GgufKeys& keys, const WeightStore& store) {
  for (const char* key : {"attn_logit_softcapping", "final_logit_softcapping"}) keys.require(key, 0.0);
  keys.require("attention.sliding_window_pattern", kPattern);
  const double local = keys.number_or("rope.freq_base_swa", kLocalTheta);
  Json out = gguf_llama_form(keys, "gemma3_text");
  out.erase("hidden_act");
  out["hidden_activation"] = "gelu_pytorch_tanh";
  out["query_pre_attn_scalar"] =
      score_scalar(out["num_hidden_layers"], out["hidden_size"], out["num_attention_heads"], out["head_dim"]);
  out["rope_theta"] = keys.number_or("rope.freq_base", 1e6);
  out["rope_local_base_freq"] = local;
  out["sliding_window"] = keys.size("attention.sliding_window", kMaxPositions);
  out["sliding_window_pattern"] = kPattern;
  out["attention_bias"] = store.has("blk.0.attn_q.bias");
  return out;
}

void gemma3_adapt(ModelSpec* spec) { spec->stored_norm_offset = 1; }

void gemma3_write(const ModelConfig& c, GgufTarget* target) {
  if (c.activation != Activation::kGeluTanh) target->refuse("another activation than gelu_pytorch_tanh");
  const auto scalar = static_cast<double>(score_scalar(c.n_layers, c.hidden_size, c.n_heads, c.head_dim));
  int64_t window = 0;
  for (int64_t l = 0; l < c.n_layers; ++l) {
    const LayerSpec& layer = c.layer(l);
    if ((layer.window > 0) != ((l + 1) % kPattern != 0))
      target->refuse("global layers that are not every sixth");
    window = std::max(window, layer.window);
    if (std::abs(layer.attention_scale * std::sqrt(scalar) - 1) > 1e-6)
      target->refuse("another query_pre_attn_scalar than that of its size");
    if (layer.window > 0 && (c.rope_of(l)->theta != kLocalTheta || c.rope_of(l)->type != "default"))
      target->refuse("another rope of local layers than the base 10,000");
  }
  gguf_write_head_dim(c, target);
  target->model->fields.u32(target->prefix + "attention.sliding_window", static_cast<uint32_t>(window));
  gguf_write_rope(c, target);
}

}  // namespace

const GgufArchitecture& gguf_gemma3() {
  static const GgufArchitecture kArchitecture = {
      "gemma3", {"gemma3"}, gemma3_config, gemma3_adapt, gemma3_write};
  return kArchitecture;
}

}  // namespace sepllm
