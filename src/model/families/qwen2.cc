// Qwen 2 and 2.5: as Llama, with biases of queries, keys and values, and a sliding window in the upper layers
// if the config says so. Reference: HF modeling_qwen2.py.
#include "model/families/llama_form.h"

namespace sepllm {
namespace {

ModelSpec parse_qwen2(const JsonObject& config) {
  ModelSpec spec;
  ModelConfig& c = spec.config;
  read_llama_form(config, {.n_kv_heads = 32, .max_positions = 32768}, &c);
  read_rope(config, {}, &c);
  set_layers(&c, {.qkv_bias = true});
  set_qwen_windows(config, &c);
  set_llama_names(&spec, llama_layer_names);
  return spec;
}

Json tiny_qwen2(const NewModelSizes& s) {
  return {{"intermediate_size", 3 * s.hidden_size}, {"tie_word_embeddings", true}};
}

Json tiny_qwen2_windows(const NewModelSizes& s) {
  return {{"intermediate_size", 3 * s.hidden_size},
          {"use_sliding_window", true},
          {"sliding_window", 20},
          {"max_window_layers", s.n_layers / 2}};
}

}  // namespace

const Family& family_qwen2() {
  static const Family kFamily = {
      .name = "qwen2",
      .architecture = "Qwen2ForCausalLM",
      .model_types = {"qwen2"},
      .parse = parse_qwen2,
      .new_config = new_llama_form,
      .unused_settings = {{"rotary_pct", "qwen2 rotates all of each head"}},
      .variants = {{"qwen2", tiny_qwen2}, {"qwen2-windows", tiny_qwen2_windows}},
  };
  return kFamily;
}

}  // namespace sepllm
