// OLMo 2: as Llama, with norms after attention and MLP instead of before, and norms of the queries and keys
// of all heads together. Reference: HF modeling_olmo2.py.
#include <fmt/format.h>

#include <cstdint>

#include "model/families/llama_form.h"

namespace sepllm {
namespace {

ModelSpec parse_olmo2(const JsonObject& config) {
  ModelSpec spec;
  ModelConfig& c = spec.config;
  read_llama_form(config, {.norm_eps = 1e-5, .eos = 50279}, &c);
  read_rope(config, {}, &c);
  const bool bias = config.boolean_or("attention_bias", false);
  set_layers(&c, {.norm_before = false,
                  .norm_after = true,
                  .qk_norm = QkNorm::kRow,
                  .qkv_bias = bias,
                  .out_bias = bias});
  set_llama_names(&spec, [](int64_t layer) {
    LayerNames names = llama_layer_names(layer);
    names.norm1 = names.norm2 = {};
    names.post_norm1 = {fmt::format("layers.{}.post_attention_layernorm", layer)};
    names.post_norm2 = {fmt::format("layers.{}.post_feedforward_layernorm", layer)};
    return names;
  });
  return spec;
}

Json tiny_olmo2(const NewModelSizes& s) { return {{"intermediate_size", 3 * s.hidden_size}}; }

}  // namespace

const Family& family_olmo2() {
  static const Family kFamily = {
      .name = "olmo2",
      .architecture = "Olmo2ForCausalLM",
      .model_types = {"olmo2"},
      .parse = parse_olmo2,
      .new_config = new_llama_form_without_padding,
      .unused_settings = {{"rotary_pct", "olmo2 rotates all of each head"}},
      .variants = {{"olmo2", tiny_olmo2}},
  };
  return kFamily;
}

}  // namespace sepllm
