// Falcon: 7B (one key/value head, one norm for attention and MLP in parallel), 40B (groups of heads, two
// norms), 11B (groups, one norm), RW (a key and value for each head, ALiBi, biases, sequential). All of them
// fuse QKV as [group][its query heads, key, value]. Also under the first releases' names RefinedWebModel (7B,
// RW) and RefinedWeb (40B). Reference: HF modeling_falcon.py.
#include <fmt/format.h>

#include <cmath>
#include <cstdint>
#include <string>

#include "base/error.h"
#include "model/families/common.h"
#include "model/families/family.h"

namespace sepllm {
namespace {

void read_kv_heads(const JsonObject& config, bool new_architecture, ModelConfig* c) {
  const char* key = first_key(config, {"num_kv_heads", "n_head_kv"});
  const int64_t given = config.integer_or(key, c->n_heads, 1, c->n_heads);
  if (new_architecture) {
    c->n_kv_heads = given;
  } else if (config.boolean_or("multi_query", true)) {
    c->n_kv_heads = 1;  // whatever num_kv_heads says: Falcon-7B's config says 71
  } else if (given != c->n_heads) {
    refuse_value(config, key, fmt::format("{} without multi_query and new_decoder_architecture", c->n_heads),
                 std::to_string(given));
  } else {
    c->n_kv_heads = given;
  }
  if (c->n_heads % c->n_kv_heads != 0) {
    refuse_value(config, key, fmt::format("a divisor of the {} heads", c->n_heads), std::to_string(given));
  }
  c->qkv = grouped_qkv(c->n_heads / c->n_kv_heads);
}

BlockType read_block(const JsonObject& config, bool new_architecture) {
  const bool parallel = config.boolean_or("parallel_attn", true);
  const int64_t n_norms =
      config.integer_or("num_ln_in_parallel_attn", new_architecture ? 2 : 1, 1, new_architecture ? 2 : 1);
  if (!parallel) {
    if (new_architecture)
      refuse_value(config, "parallel_attn", "true with new_decoder_architecture", "false");
    return BlockType::kSequential;
  }
  return n_norms == 2 ? BlockType::kParallel : BlockType::kParallelShared;
}

LayerNames falcon_layer_names(int64_t layer, BlockType block) {
  const std::string base = fmt::format("h.{}.", layer);
  LayerNames names;
  names.norm1 = {base + (block == BlockType::kParallel ? "ln_attn" : "input_layernorm")};
  if (block == BlockType::kParallel) names.norm2 = {base + "ln_mlp"};
  if (block == BlockType::kSequential) names.norm2 = {base + "post_attention_layernorm"};
  names.qkv = {{base + "self_attention.query_key_value"}};
  names.attention_out = {base + "self_attention.dense"};
  names.mlp_in = {{base + "mlp.dense_h_to_4h"}};
  names.mlp_down = {base + "mlp.dense_4h_to_h"};
  return names;
}

void read_positions(const JsonObject& config, ModelConfig* c) {
  c->max_positions = config.integer_or("max_position_embeddings", 2048, 1, kMaxPositions);
  if (!config.boolean_or("alibi", false)) {
    read_rope(config, {}, c);
    return;
  }
  c->position = PositionType::kAlibi;
  c->alibi_slopes = alibi_slopes(c->n_heads);
  // Falcon scales the scores after the bias has been added.
  for (double& slope : c->alibi_slopes) slope /= std::sqrt(static_cast<double>(c->head_dim));
}

ModelSpec parse_falcon(const JsonObject& config) {
  ModelSpec spec;
  ModelConfig& c = spec.config;
  const char* heads_key = first_key(config, {"num_attention_heads", "n_head"});
  const bool new_architecture =
      config.boolean_or("new_decoder_architecture", config.string_or("model_type", "falcon") == "RefinedWeb");
  c.vocab_size = config.integer("vocab_size", 1, kMaxVocab);
  c.hidden_size = config.integer(first_key(config, {"n_embed", "hidden_size"}), 1, kMaxHidden);
  c.n_layers = config.integer(first_key(config, {"num_hidden_layers", "n_layer"}), 1, kMaxLayers);
  c.n_heads = config.integer(heads_key, 1, kMaxHeads);
  c.head_dim = divided_head_dim(config, heads_key, c.hidden_size, c.n_heads);
  c.intermediate_size = config.integer_or("ffn_hidden_size", 4 * c.hidden_size, 1, kMaxIntermediate);
  read_kv_heads(config, new_architecture, &c);
  c.norm = NormType::kLayerNorm;
  c.norm_eps = read_epsilon(config, "layer_norm_epsilon", 1e-5);
  c.block = read_block(config, new_architecture);
  c.activation = read_activation(config, "activation", "gelu");
  read_positions(config, &c);
  const bool bias = config.boolean_or("bias", false);
  set_layers(&c, {.qkv_bias = bias, .out_bias = bias, .mlp_bias = bias});
  c.tied_embeddings = config.boolean_or("tie_word_embeddings", true);
  read_token_ids(config, 11, 11, &c);
  require_flag(config, "apply_residual_connection_post_layernorm", false, false);

  spec.prefix = "transformer.";
  spec.ignored_suffixes = {".inv_freq"};
  spec.names.token_embedding = "word_embeddings.weight";
  spec.names.final_norm = {"ln_f"};
  spec.names.head = "lm_head.weight";
  for (int64_t i = 0; i < c.n_layers; ++i) spec.names.layers.push_back(falcon_layer_names(i, c.block));
  return spec;
}

Json new_falcon(const NewModelSizes& s) {
  return {{"hidden_size", s.hidden_size},
          {"num_hidden_layers", s.n_layers},
          {"num_attention_heads", s.n_heads},
          {"num_kv_heads", s.n_kv_heads},
          {"ffn_hidden_size", s.intermediate_size > 0 ? s.intermediate_size : 4 * s.hidden_size},
          {"max_position_embeddings", s.max_positions},
          {"layer_norm_epsilon", 1e-5},
          {"rope_theta", s.rope_theta},
          {"new_decoder_architecture", true},
          {"multi_query", false},
          {"parallel_attn", true},
          {"alibi", false},
          {"bias", false}};
}

Json tiny_40b(const NewModelSizes&) { return {{"tie_word_embeddings", true}}; }

Json tiny_11b(const NewModelSizes&) {
  return {{"tie_word_embeddings", true}, {"num_ln_in_parallel_attn", 1}};
}

Json tiny_7b(const NewModelSizes& s) {
  return {{"tie_word_embeddings", true},
          {"num_kv_heads", s.n_heads},
          {"new_decoder_architecture", false},
          {"multi_query", true}};
}

Json tiny_rw(const NewModelSizes& s) {
  return {{"tie_word_embeddings", true},
          {"num_kv_heads", s.n_heads},
          {"new_decoder_architecture", false},
          {"parallel_attn", false},
          {"alibi", true},
          {"bias", true}};
}

}  // namespace

const Family& family_falcon() {
  static const Family kFamily = {
      .name = "falcon",
      .architecture = "FalconForCausalLM",
      // The last two: Falcon 40B, and 7B and RW, as first released.
      .model_types = {"falcon", "RefinedWeb", "RefinedWebModel"},
      .parse = parse_falcon,
      .new_config = new_falcon,
      .unused_settings = {{"rotary_pct", "falcon rotates all of each head"}},
      .variants = {{"falcon-7b", tiny_7b},
                   {"falcon-40b", tiny_40b},
                   {"falcon-11b", tiny_11b},
                   {"falcon-rw", tiny_rw}},
  };
  return kFamily;
}

}  // namespace sepllm
