// Llama 1 to 3 and what shares their form (TinyLlama, SmolLM, ...): RMS norm, SwiGLU, rotary positions,
// grouped queries. Reference: HF modeling_llama.py.
#include <fmt/format.h>

#include <cstdint>
#include <string>

#include "model/families/common.h"
#include "model/families/family.h"

namespace sepllm {
namespace {

void read_heads(const JsonObject& config, ModelConfig* c) {
  c->n_heads = config.integer("num_attention_heads", 1, kMaxHeads);
  c->n_kv_heads = config.integer_or("num_key_value_heads", c->n_heads, 1, c->n_heads);
  if (c->n_heads % c->n_kv_heads != 0) {
    refuse_value(config, "num_key_value_heads", fmt::format("a divisor of the {} heads", c->n_heads),
                 std::to_string(c->n_kv_heads));
  }
  c->head_dim = config.has("head_dim")
                    ? config.integer("head_dim", 1, kMaxHeadDim)
                    : divided_head_dim(config, "num_attention_heads", c->hidden_size, c->n_heads);
  c->qkv = separate_qkv(c->n_heads, c->n_kv_heads);
}

LayerNames llama_layer_names(int64_t layer) {
  const std::string base = fmt::format("layers.{}.", layer);
  LayerNames names;
  names.norm1 = {base + "input_layernorm"};
  names.norm2 = {base + "post_attention_layernorm"};
  for (const char* part : {"q_proj", "k_proj", "v_proj"}) names.qkv.push_back({base + "self_attn." + part});
  names.attention_out = {base + "self_attn.o_proj"};
  names.mlp_in = {{base + "mlp.gate_proj"}, {base + "mlp.up_proj"}};
  names.mlp_down = {base + "mlp.down_proj"};
  return names;
}

ModelSpec parse_llama(const JsonObject& config) {
  ModelSpec spec;
  ModelConfig& c = spec.config;
  c.vocab_size = config.integer("vocab_size", 1, kMaxVocab);
  c.hidden_size = config.integer("hidden_size", 1, kMaxHidden);
  c.n_layers = config.integer("num_hidden_layers", 1, kMaxLayers);
  c.intermediate_size = config.integer("intermediate_size", 1, kMaxIntermediate);
  c.max_positions = config.integer_or("max_position_embeddings", 2048, 1, kMaxPositions);
  read_heads(config, &c);
  c.norm = NormType::kRmsNorm;
  c.norm_eps = read_epsilon(config, "rms_norm_eps", 1e-6);
  c.block = BlockType::kSequential;
  c.activation = read_activation(config, "hidden_act", "silu");
  c.gated_mlp = true;
  read_rope(config, {}, &c);
  const bool attention_bias = config.boolean_or("attention_bias", false);
  const bool mlp_bias = config.boolean_or("mlp_bias", false);
  set_layers(&c, {.qkv_bias = attention_bias, .out_bias = attention_bias, .mlp_bias = mlp_bias});
  c.tied_embeddings = config.boolean_or("tie_word_embeddings", false);
  read_token_ids(config, 1, 2, &c);

  spec.prefix = "model.";
  spec.ignored_suffixes = {".inv_freq"};
  spec.names.token_embedding = "embed_tokens.weight";
  spec.names.final_norm = {"norm"};
  spec.names.head = "lm_head.weight";
  for (int64_t i = 0; i < c.n_layers; ++i) spec.names.layers.push_back(llama_layer_names(i));
  return spec;
}

Json new_llama(const NewModelSizes& s) {
  const int64_t usual = (s.hidden_size * 8 / 3 + 63) / 64 * 64;
  return {{"hidden_size", s.hidden_size},
          {"intermediate_size", s.intermediate_size > 0 ? s.intermediate_size : usual},
          {"num_hidden_layers", s.n_layers},
          {"num_attention_heads", s.n_heads},
          {"num_key_value_heads", s.n_kv_heads},
          {"max_position_embeddings", s.max_positions},
          {"hidden_act", "silu"},
          {"rms_norm_eps", 1e-5},
          {"rope_theta", s.rope_theta}};
}

Json tiny(const NewModelSizes& s) { return {{"intermediate_size", 3 * s.hidden_size}}; }

Json tiny_tied(const NewModelSizes& s) {
  return {{"intermediate_size", 3 * s.hidden_size},
          {"tie_word_embeddings", true},
          {"attention_bias", true},
          {"mlp_bias", true},
          {"rope_scaling",
           {{"rope_type", "llama3"},
            {"factor", 8.0},
            {"low_freq_factor", 1.0},
            {"high_freq_factor", 4.0},
            {"original_max_position_embeddings", s.max_positions / 2}}}};
}

}  // namespace

const Family& family_llama() {
  static const Family kFamily = {
      .name = "llama",
      .architecture = "LlamaForCausalLM",
      .model_types = {"llama"},
      .parse = parse_llama,
      .new_config = new_llama,
      .unused_settings = {{"rotary_pct", "llama rotates all of each head"}},
      .variants = {{"llama", tiny}, {"llama-tied", tiny_tied}},
  };
  return kFamily;
}

}  // namespace sepllm
