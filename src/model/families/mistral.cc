// Mistral: as Llama, with a sliding window in every layer, or in none. Reference: HF modeling_mistral.py.
#include <cstdint>

#include "model/families/llama_form.h"

namespace sepllm {
namespace {

// `layer_types` is a key of other families, which transformers does not read here: it must say what
// `sliding_window` says.
void check_layer_types(const JsonObject& config, const ModelConfig& c, int64_t window) {
  const auto types = read_layer_types(config, c.n_layers);
  if (!types) return;
  for (const bool local : *types) {
    if (local == (window > 0)) continue;
    refuse_value(config, "layer_types",
                 window > 0 ? "sliding_attention only, as sliding_window applies to all layers of this family"
                            : "full_attention only, as sliding_window is null",
                 local ? "sliding_attention" : "full_attention");
  }
}

ModelSpec parse_mistral(const JsonObject& config) {
  ModelSpec spec;
  ModelConfig& c = spec.config;
  read_llama_form(config, {.n_kv_heads = 8, .max_positions = 131072, .bos = 1, .eos = 2}, &c);
  read_rope(config, {}, &c);
  const int64_t window = read_sliding_window(config, 4096);
  set_layers(&c, {.window = window});
  check_layer_types(config, c, window);
  set_llama_names(&spec, llama_layer_names);
  return spec;
}

Json new_mistral(const NewModelSizes& s) {
  Json config = new_llama_form(s);
  config["sliding_window"] = nullptr;
  return config;
}

Json tiny_mistral(const NewModelSizes& s) {
  return {{"intermediate_size", 3 * s.hidden_size}, {"sliding_window", 24}};
}

}  // namespace

const Family& family_mistral() {
  static const Family kFamily = {
      .name = "mistral",
      .architecture = "MistralForCausalLM",
      .model_types = {"mistral"},
      .parse = parse_mistral,
      .new_config = new_mistral,
      .unused_settings = {{"rotary_pct", "mistral rotates all of each head"}},
      .variants = {{"mistral", tiny_mistral}},
  };
  return kFamily;
}

}  // namespace sepllm
