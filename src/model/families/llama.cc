// Llama 1 to 3 and what shares their form (TinyLlama, SmolLM, ...): RMS norm, SwiGLU, rotary positions,
// grouped queries. Reference: HF modeling_llama.py.

#include "model/families/llama_form.h"

namespace sepllm {
namespace {

ModelSpec parse_llama(const JsonObject& config) {
  ModelSpec spec;
  ModelConfig& c = spec.config;
  read_llama_form(config, {.bos = 1, .eos = 2}, &c);
  read_rope(config, {}, &c);
  const bool attention_bias = config.boolean_or("attention_bias", false);
  const bool mlp_bias = config.boolean_or("mlp_bias", false);
  set_layers(&c, {.qkv_bias = attention_bias, .out_bias = attention_bias, .mlp_bias = mlp_bias});
  set_llama_names(&spec, llama_layer_names);
  return spec;
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
      .new_config = new_llama_form,
      .unused_settings = {{"rotary_pct", "llama rotates all of each head"}},
      .variants = {{"llama", tiny}, {"llama-tied", tiny_tied}},
  };
  return kFamily;
}

}  // namespace sepllm
