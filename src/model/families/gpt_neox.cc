// GPT-NeoX and Pythia: layer norm, parallel or sequential residual, partly rotated heads, one fused QKV
// matrix of [head][q, k, v]. Reference: HF modeling_gpt_neox.py.
#include <fmt/format.h>

#include <cstdint>
#include <string>

#include "model/families/common.h"
#include "model/families/family.h"

namespace sepllm {
namespace {

LayerNames gpt_neox_layer_names(int64_t layer) {
  const std::string base = fmt::format("layers.{}.", layer);
  LayerNames names;
  names.norm1 = {base + "input_layernorm"};
  names.norm2 = {base + "post_attention_layernorm"};
  names.qkv = {{base + "attention.query_key_value"}};
  names.attention_out = {base + "attention.dense"};
  names.mlp_in = {{base + "mlp.dense_h_to_4h"}};
  names.mlp_down = {base + "mlp.dense_4h_to_h"};
  return names;
}

ModelSpec parse_gpt_neox(const JsonObject& config) {
  ModelSpec spec;
  ModelConfig& c = spec.config;
  c.vocab_size = config.integer("vocab_size", 1, kMaxVocab);
  c.hidden_size = config.integer("hidden_size", 1, kMaxHidden);
  c.n_layers = config.integer("num_hidden_layers", 1, kMaxLayers);
  c.n_heads = config.integer("num_attention_heads", 1, kMaxHeads);
  c.n_kv_heads = c.n_heads;
  c.head_dim = divided_head_dim(config, "num_attention_heads", c.hidden_size, c.n_heads);
  c.qkv = grouped_qkv(1);
  c.intermediate_size = config.integer("intermediate_size", 1, kMaxIntermediate);
  c.max_positions = config.integer_or("max_position_embeddings", 2048, 1, kMaxPositions);
  c.norm = NormType::kLayerNorm;
  c.norm_eps = read_epsilon(config, "layer_norm_eps", 1e-5);
  c.block = config.boolean_or("use_parallel_residual", true) ? BlockType::kParallel : BlockType::kSequential;
  c.activation = read_activation(config, "hidden_act", "gelu");
  read_rope(config,
            {.theta_key = "rotary_emb_base", .share_key = "rotary_pct", .share = 0.25, .rotates_share = true},
            &c);
  const bool attention_bias = config.boolean_or("attention_bias", true);
  set_layers(&c, {.qkv_bias = attention_bias, .out_bias = attention_bias, .mlp_bias = true});
  c.tied_embeddings = config.boolean_or("tie_word_embeddings", false);
  read_token_ids(config, 0, 2, &c);

  spec.prefix = "gpt_neox.";
  spec.ignored_suffixes = {".inv_freq", ".attention.bias", ".attention.masked_bias"};
  spec.names.token_embedding = "embed_in.weight";
  spec.names.final_norm = {"final_layer_norm"};
  spec.names.head = "embed_out.weight";
  spec.names.head_alternative = "lm_head.weight";  // its name inside transformers 5
  for (int64_t i = 0; i < c.n_layers; ++i) spec.names.layers.push_back(gpt_neox_layer_names(i));
  return spec;
}

Json new_gpt_neox(const NewModelSizes& s) {
  return {{"hidden_size", s.hidden_size},
          {"intermediate_size", s.intermediate_size > 0 ? s.intermediate_size : 4 * s.hidden_size},
          {"num_hidden_layers", s.n_layers},
          {"num_attention_heads", s.n_heads},
          {"max_position_embeddings", s.max_positions},
          {"hidden_act", "gelu"},
          {"layer_norm_eps", 1e-5},
          {"rotary_emb_base", s.rope_theta},
          {"rotary_pct", s.rotary_pct},
          {"use_parallel_residual", true}};
}

}  // namespace

const Family& family_gpt_neox() {
  static const Family kFamily = {
      .name = "gpt_neox",
      .architecture = "GPTNeoXForCausalLM",
      .model_types = {"gpt_neox"},
      .parse = parse_gpt_neox,
      .new_config = new_gpt_neox,
      .unused_settings = {{"n_kv_heads", "gpt_neox has as many as query heads"}},
      .variants = {{"gpt_neox", [](const NewModelSizes&) { return Json::object(); }},
                   {"gpt_neox-sequential",
                    [](const NewModelSizes&) {
                      return Json{{"use_parallel_residual", false}};
                    }}},
  };
  return kFamily;
}

}  // namespace sepllm
