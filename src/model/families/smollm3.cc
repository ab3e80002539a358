// SmolLM 3: as Llama, with layers that do not rotate queries and keys, and a sliding window in some layers if
// the config says so. Reference: HF modeling_smollm3.py.
#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <string>
#include <vector>

#include "model/families/llama_form.h"

namespace sepllm {
namespace {

// For each layer whether it rotates: `no_rope_layers` (1: it does), or every so-many-th layer does not.
std::vector<bool> read_rotated_layers(const JsonObject& config, int64_t n_layers) {
  const int64_t interval = config.integer_or("no_rope_layer_interval", 4, 1, kMaxLayers);
  std::vector<bool> rotated;
  for (int64_t l = 0; l < n_layers; ++l) rotated.push_back((l + 1) % interval != 0);
  const char* key = "no_rope_layers";
  if (!config.has(key)) return rotated;
  const Json& list = config.at(key);
  const auto is_flag = [](const Json& v) { return v == 0 || v == 1; };
  if (!list.is_array() || std::ssize(list) < n_layers || !std::all_of(list.begin(), list.end(), is_flag)) {
    refuse_value(config, key, fmt::format("a list with 1 or 0 for each of the {} layers", n_layers),
                 list.is_array() ? fmt::format("{} elements", list.size()) : json_text(list));
  }
  for (size_t l = 0; l < rotated.size(); ++l) rotated[l] = list[l] == 1;
  return rotated;
}

ModelSpec parse_smollm3(const JsonObject& config) {
  ModelSpec spec;
  ModelConfig& c = spec.config;
  read_llama_form(config,
                  {.n_kv_heads = 4, .max_positions = 32768, .tied = true, .bos = 128000, .eos = 128001}, &c);
  read_rope(config, {.theta = 2e6}, &c);
  const bool attention_bias = config.boolean_or("attention_bias", false);
  const bool mlp_bias = config.boolean_or("mlp_bias", false);
  set_layers(&c, {.qkv_bias = attention_bias, .out_bias = attention_bias, .mlp_bias = mlp_bias});
  const std::vector<bool> rotated = read_rotated_layers(config, c.n_layers);
  for (size_t l = 0; l < rotated.size(); ++l) {
    if (!rotated[l]) c.layers[l].rope = LayerSpec::kNoRope;
  }
  const int64_t stated = read_sliding_window(config, 0);
  const int64_t window = config.boolean_or("use_sliding_window", false) ? stated : 0;
  std::vector<bool> local;
  for (const bool r : rotated) local.push_back(window > 0 && !r);
  set_windows(config, "layer_types", read_layer_types(config, c.n_layers).value_or(local), window, &c);
  set_llama_names(&spec, llama_layer_names);
  return spec;
}

Json tiny_smollm3(const NewModelSizes& s) {
  return {
      {"intermediate_size", 3 * s.hidden_size}, {"tie_word_embeddings", true}, {"no_rope_layer_interval", 2}};
}

}  // namespace

const Family& family_smollm3() {
  static const Family kFamily = {
      .name = "smollm3",
      .architecture = "SmolLM3ForCausalLM",
      .model_types = {"smollm3"},
      .parse = parse_smollm3,
      .new_config = new_llama_form_without_padding,
      .unused_settings = {{"rotary_pct", "smollm3 rotates all of each head"}},
      .variants = {{"smollm3", tiny_smollm3}},
  };
  return kFamily;
}

}  // namespace sepllm
