// GPT-2 in GGUF: matrices are [out, in], unlike the family's own checkpoints. (llama.cpp's
// convert_hf_to_gguf.py, GPT2Model.)
#include "model/families/common.h"
#include "model/gguf/architecture.h"

namespace sepllm {
namespace {

Json gpt2_config(const GgufKeys& keys, const WeightStore&) {
  return {{"model_type", "gpt2"},
          {"n_embd", keys.size("embedding_length", kMaxHidden)},
          {"n_layer", keys.size("block_count", kMaxLayers)},
          {"n_inner", keys.size("feed_forward_length", kMaxIntermediate)},
          {"n_head", keys.size("attention.head_count", kMaxHeads)},
          {"n_positions", keys.size("context_length", kMaxPositions)},
          {"layer_norm_epsilon", keys.number("attention.layer_norm_epsilon")},
          {"activation_function", "gelu_new"}};
}

void gpt2_write(const ModelConfig& c, GgufTarget* target) {
  if (c.activation != Activation::kGeluTanh) target->refuse("another activation than gelu_new");
  for (const LayerSpec& layer : c.layers) {
    if (layer.attention_scale != usual_attention_scale(c.head_dim))
      target->refuse("attention scores that are scaled in another way");
  }
}

}  // namespace

// (gguf_names() has taken the place of the family's names, whose matrices are transposed.)
const GgufArchitecture& gguf_gpt2() {
  static const GgufArchitecture kArchitecture = {"gpt2", {"gpt2"}, gpt2_config, nullptr, gpt2_write};
  return kArchitecture;
}

}  // namespace sepllm
