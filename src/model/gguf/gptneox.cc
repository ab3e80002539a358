// GPT-NeoX and Pythia in GGUF: the fused QKV matrix lies as all queries, all keys, all values. (llama.cpp's
// convert_hf_to_gguf.py, GPTNeoXModel.) The file does not name the activation; the models have "gelu".

#include <algorithm>
#include <cstdint>

#include "model/families/common.h"
#include "model/gguf/architecture.h"

namespace sepllm {
namespace {

Json gptneox_config(const GgufKeys& keys, const WeightStore& store) {
  const int64_t n_heads = keys.size("attention.head_count", kMaxHeads);
  const int64_t hidden = keys.size("embedding_length", kMaxHidden);
  const int64_t head_dim = std::max<int64_t>(hidden / n_heads, 1);
  return {{"model_type", "gpt_neox"},
          {"hidden_size", hidden},
          {"num_hidden_layers", keys.size("block_count", kMaxLayers)},
          {"intermediate_size", keys.size("feed_forward_length", kMaxIntermediate)},
          {"num_attention_heads", n_heads},
          {"max_position_embeddings", keys.size("context_length", kMaxPositions)},
          {"layer_norm_eps", keys.number("attention.layer_norm_epsilon")},
          {"rotary_emb_base", keys.number_or("rope.freq_base", 10000.0)},
          {"rotary_pct", gguf_rotated_share(keys.size("rope.dimension_count", head_dim), head_dim)},
          {"use_parallel_residual", keys.boolean_or("use_parallel_residual", true)},
          {"attention_bias", store.has("blk.0.attn_qkv.bias")},
          {"hidden_act", "gelu"}};
}

void gptneox_adapt(ModelSpec* spec) {
  const ModelConfig& c = spec->config;
  const RowOrder order = rows_of_parts(c.qkv, c.n_heads, c.n_kv_heads, c.head_dim);
  for (const LayerNames& layer : spec->names.layers) set_row_order(layer.qkv[0], order, spec);
}

void gptneox_write(const ModelConfig& c, GgufTarget* target) {
  if (c.activation != Activation::kGelu) target->refuse("another activation than gelu");
  target->model->fields.flag(target->prefix + "use_parallel_residual", c.block == BlockType::kParallel);
  gguf_write_rope(c, target);
}

}  // namespace

const GgufArchitecture& gguf_gptneox() {
  static const GgufArchitecture kArchitecture = {
      "gptneox", {"gpt_neox"}, gptneox_config, gptneox_adapt, gptneox_write};
  return kArchitecture;
}

}  // namespace sepllm
