// GPT-2: layer norm, learned positions, matrices stored as [in, out] (Conv1D), the head tied to the
// embedding. Reference: HF modeling_gpt2.py.
#include <fmt/format.h>

#include <cstddef>
#include <cstdint>
#include <string>

#include "model/families/common.h"
#include "model/families/family.h"

namespace sepllm {
namespace {

LayerNames gpt2_layer_names(int64_t layer) {
  const std::string base = fmt::format("h.{}.", layer);
  LayerNames names;
  names.norm1 = {base + "ln_1"};
  names.norm2 = {base + "ln_2"};
  names.qkv = {{base + "attn.c_attn"}};
  names.attention_out = {base + "attn.c_proj"};
  names.mlp_in = {{base + "mlp.c_fc"}};
  names.mlp_down = {base + "mlp.c_proj"};
  return names;
}

// (`reorder_and_upcast_attn` says in which order and type to compute scores, which makes no difference in
// f32.)
void read_layers(const JsonObject& config, ModelConfig* c) {
  config.boolean_or("reorder_and_upcast_attn", false);
  const double scale = config.boolean_or("scale_attn_weights", true) ? usual_attention_scale(c->head_dim) : 1;
  set_layers(c, {.attention_scale = scale, .qkv_bias = true, .out_bias = true, .mlp_bias = true});
  if (!config.boolean_or("scale_attn_by_inverse_layer_idx", false)) return;
  for (int64_t l = 0; l < c->n_layers; ++l)
    c->layers[static_cast<size_t>(l)].attention_scale = scale / static_cast<double>(l + 1);
}

ModelSpec parse_gpt2(const JsonObject& config) {
  ModelSpec spec;
  ModelConfig& c = spec.config;
  const char* heads_key = first_key(config, {"n_head", "num_attention_heads"});
  c.vocab_size = config.integer("vocab_size", 1, kMaxVocab);
  c.hidden_size = config.integer(first_key(config, {"n_embd", "hidden_size"}), 1, kMaxHidden);
  c.n_layers = config.integer(first_key(config, {"n_layer", "num_hidden_layers"}), 1, kMaxLayers);
  c.n_heads = config.integer(heads_key, 1, kMaxHeads);
  c.n_kv_heads = c.n_heads;
  c.head_dim = divided_head_dim(config, heads_key, c.hidden_size, c.n_heads);
  c.qkv = separate_qkv(c.n_heads, c.n_kv_heads);
  c.intermediate_size = config.integer_or("n_inner", 4 * c.hidden_size, 1, kMaxIntermediate);
  c.max_positions = config.integer_or(first_key(config, {"n_positions", "max_position_embeddings"}), 1024, 1,
                                      kMaxPositions);
  c.norm = NormType::kLayerNorm;
  c.norm_eps = read_epsilon(config, "layer_norm_epsilon", 1e-5);
  c.block = BlockType::kSequential;
  c.activation = read_activation(config, "activation_function", "gelu_new");
  c.position = PositionType::kLearned;
  read_layers(config, &c);
  c.tied_embeddings = config.boolean_or("tie_word_embeddings", true);
  read_token_ids(config, 50256, 50256, &c);
  require_flag(config, "add_cross_attention", false, false);

  spec.prefix = "transformer.";
  spec.ignored_suffixes = {".attn.bias", ".attn.masked_bias"};
  spec.names.token_embedding = "wte.weight";
  spec.names.position_embedding = "wpe.weight";
  spec.names.final_norm = {"ln_f"};
  spec.names.head = "lm_head.weight";
  spec.names.transposed_linears = true;
  for (int64_t i = 0; i < c.n_layers; ++i) spec.names.layers.push_back(gpt2_layer_names(i));
  return spec;
}

Json new_gpt2(const NewModelSizes& s) {
  return {{"n_embd", s.hidden_size},
          {"n_layer", s.n_layers},
          {"n_head", s.n_heads},
          {"n_positions", s.max_positions},
          {"n_inner", s.intermediate_size > 0 ? s.intermediate_size : 4 * s.hidden_size},
          {"activation_function", "gelu_new"},
          {"layer_norm_epsilon", 1e-5}};
}

}  // namespace

const Family& family_gpt2() {
  static const Family kFamily = {
      .name = "gpt2",
      .architecture = "GPT2LMHeadModel",
      .model_types = {"gpt2"},
      .parse = parse_gpt2,
      .new_config = new_gpt2,
      .unused_settings = {{"n_kv_heads", "gpt2 has as many as query heads"},
                          {"rotary_pct", "gpt2 has learned positions"},
                          {"rope_theta", "gpt2 has learned positions"}},
      .always_tied = true,
      .variants = {{"gpt2", [](const NewModelSizes&) { return Json::object(); }}},
  };
  return kFamily;
}

}  // namespace sepllm
