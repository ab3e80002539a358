// A tiny model whose layers differ in all that a layer may differ in (model/config.h): no family has them
// all.
#pragma once

#include <string>
#include <vector>

#include "model/config.h"
#include "model/random_model.h"

namespace sepllm::test {

// Layer 0: local (a window of 5), with a rope of its own, norms of each head, norms before and after.
// Layer 1: as 0, but global, with the model's first rope.
// Layer 2: no rope, norms after only, queries and keys normed as rows; biases of q, k and v only.
// Layer 3: as llama's, gate and up in one matrix.
// Embeddings are scaled, norms multiply by 1 + weight, the head is the embedding.
inline ModelSpec layered_spec() {
  ModelSpec spec = parse_model_spec(
      random_model_config({.variant = "llama",
                           .hidden_size = 32,
                           .n_layers = 4,
                           .n_heads = 4,
                           .extra_config = {{"head_dim", 16}, {"tie_word_embeddings", true}}}),
      "config.json");
  ModelConfig& c = spec.config;
  c.embed_scale = 4;
  c.norm_offset = 1;
  c.ropes.push_back(c.ropes[0]);
  for (double& f : c.ropes[1].inv_freq) f *= 0.5;
  for (size_t l = 0; l < 2; ++l) {
    c.layers[l].norm_after = true;
    c.layers[l].qk_norm = QkNorm::kHead;
    c.layers[l].attention_scale = 0.5;
  }
  c.layers[0].window = 5;
  c.layers[0].rope = 1;
  c.layers[2].rope = LayerSpec::kNoRope;
  c.layers[2].norm_before = false;
  c.layers[2].norm_after = true;
  c.layers[2].qk_norm = QkNorm::kRow;
  c.layers[2].qkv_bias = true;
  for (int64_t l = 0; l < c.n_layers; ++l) {
    LayerNames& names = spec.names.layers[static_cast<size_t>(l)];
    const std::string base = "layers." + std::to_string(l) + ".";
    names.q_norm = {base + "self_attn.q_norm"};
    names.k_norm = {base + "self_attn.k_norm"};
    names.post_norm1 = {base + "post_norm1"};
    names.post_norm2 = {base + "post_norm2"};
  }
  spec.names.layers[3].mlp_in = {{"layers.3.mlp.gate_up_proj"}};
  return spec;
}

}  // namespace sepllm::test
