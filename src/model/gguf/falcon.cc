// Falcon 7B, 40B and 11B in GGUF: the fused QKV matrix lies as all queries, all keys, all values; where a
// layer has two norms, attn_norm_2 is that of attention. (llama.cpp's convert_hf_to_gguf.py, FalconModel.)
#include <fmt/format.h>

#include <cstdint>

#include "model/families/common.h"
#include "model/gguf/architecture.h"

namespace sepllm {
namespace {

constexpr const char* kSecondNorm = "blk.0.attn_norm_2.weight";

Json falcon_config(const GgufKeys& keys, const WeightStore& store) {
  const int64_t n_heads = keys.size("attention.head_count", kMaxHeads);
  const int64_t n_kv_heads = keys.size_or("attention.head_count_kv", 1, n_heads);
  const bool two_norms = store.has(kSecondNorm);
  const bool newer = two_norms || n_kv_heads > 1;  // 40B and 11B
  Json out = {{"model_type", "falcon"},
              {"hidden_size", keys.size("embedding_length", kMaxHidden)},
              {"num_hidden_layers", keys.size("block_count", kMaxLayers)},
              {"ffn_hidden_size", keys.size("feed_forward_length", kMaxIntermediate)},
              {"num_attention_heads", n_heads},
              {"num_kv_heads", n_kv_heads},
              {"max_position_embeddings", keys.size("context_length", kMaxPositions)},
              {"layer_norm_epsilon", keys.number("attention.layer_norm_epsilon")},
              {"rope_theta", keys.number_or("rope.freq_base", 10000.0)},
              {"new_decoder_architecture", newer},
              {"multi_query", !newer},
              {"parallel_attn", true},
              {"alibi", false},
              {"bias", store.has("blk.0.attn_qkv.bias")}};
  if (newer) out["num_ln_in_parallel_attn"] = two_norms ? 2 : 1;
  return out;
}

void falcon_adapt(ModelSpec* spec) {
  const ModelConfig& c = spec->config;
  const RowOrder order = rows_of_parts(c.qkv, c.n_heads, c.n_kv_heads, c.head_dim);
  for (LayerNames& layer : spec->names.layers) {
    set_row_order(layer.qkv[0], order, spec);
    if (c.block != BlockType::kParallel) continue;
    layer.norm2 = layer.norm1;
    layer.norm1.base += "_2";
  }
}

void falcon_write(const ModelConfig& c, GgufTarget* target) {
  if (c.position != PositionType::kRope) target->refuse("ALiBi positions");
  if (c.block == BlockType::kSequential) target->refuse("sequential blocks");
  if (c.activation != Activation::kGelu) target->refuse("another activation than gelu");
  target->model->fields.text(target->prefix + "tensor_data_layout", "jploski");
  gguf_write_rope(c, target);
}

}  // namespace

const GgufArchitecture& gguf_falcon() {
  static const GgufArchitecture kArchitecture = {
      "falcon", {"falcon"}, falcon_config, falcon_adapt, falcon_write};
  return kArchitecture;
}

}  // namespace sepllm
