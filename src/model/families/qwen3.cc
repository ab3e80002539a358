// Qwen 3: as Llama, with norms of each query and key head and a size of heads of its own. Reference: HF
// modeling_qwen3.py.
#include "model/families/llama_form.h"

namespace sepllm {
namespace {

ModelSpec parse_qwen3(const JsonObject& config) {
  ModelSpec spec;
  ModelConfig& c = spec.config;
  read_llama_form(config, {.n_kv_heads = 32, .head_dim = 128, .max_positions = 32768}, &c);
  read_rope(config, {}, &c);
  const bool bias = config.boolean_or("attention_bias", false);
  set_layers(&c, {.qk_norm = QkNorm::kHead, .qkv_bias = bias, .out_bias = bias});
  set_qwen_windows(config, &c);
  set_llama_names(&spec, llama_layer_names);
  return spec;
}

Json new_qwen3(const NewModelSizes& s) {
  Json config = new_llama_form(s);
  config["head_dim"] = s.hidden_size / s.n_heads;
  return config;
}

Json tiny_qwen3(const NewModelSizes& s) {
  return {{"intermediate_size", 3 * s.hidden_size},
          {"head_dim", 2 * s.hidden_size / s.n_heads},
          {"tie_word_embeddings", true}};
}

}  // namespace

const Family& family_qwen3() {
  static const Family kFamily = {
      .name = "qwen3",
      .architecture = "Qwen3ForCausalLM",
      .model_types = {"qwen3"},
      .parse = parse_qwen3,
      .new_config = new_qwen3,
      .unused_settings = {{"rotary_pct", "qwen3 rotates all of each head"}},
      .variants = {{"qwen3", tiny_qwen3}},
  };
  return kFamily;
}

}  // namespace sepllm
