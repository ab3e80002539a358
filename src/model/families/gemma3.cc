// Gemma 3, text: norms before and after attention and MLP whose weights count from 1, scaled embeddings,
// norms of each query and key head, and local layers (a sliding window, a rope of their own) between global
// ones. Of multimodal checkpoints ("gemma3") the text model is read. Reference: HF modeling_gemma3.py.
#include <fmt/format.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "base/error.h"
#include "model/families/llama_form.h"

namespace sepllm {
namespace {

// In the order in which they enter ModelConfig::ropes.
constexpr const char* kLayerTypes[] = {"full_attention", "sliding_attention"};
constexpr int64_t kGlobalRope = 0, kLocalRope = 1;

// `layer_types`, or transformers 4's pattern: every so-many-th layer is global.
std::vector<bool> read_local_layers(const JsonObject& config, int64_t n_layers) {
  const int64_t pattern = config.integer_or("sliding_window_pattern", 6, 1, kMaxLayers);
  std::vector<bool> local;
  for (int64_t l = 0; l < n_layers; ++l) local.push_back((l + 1) % pattern != 0);
  return read_layer_types(config, n_layers).value_or(local);
}

[[noreturn]] void refuse_flat_ropes(const JsonObject& parent, const char* key) {
  throw Error(ErrorCode::kBadFile, "wrong value",
              {.file = parent.file(),
               .place = parent.path_of(key),
               .expected = "an object each for full_attention and sliding_attention",
               .got = json_text(parent.json().at(key))});
}

// The settings of both types of layers: transformers 5's `rope_parameters`, with transformers 4's
// `rope_scaling` over those of the global layers.
Json rope_settings(const JsonObject& config) {
  Json out = {{"full_attention", {{"rope_type", "default"}}},
              {"sliding_attention", {{"rope_type", "default"}}}};
  if (config.has("rope_parameters")) {
    const JsonObject stated = config.object("rope_parameters");
    for (const auto& [name, value] : stated.json().items()) {
      if (!out.contains(name) || !(value.is_object() || value.is_null()))
        refuse_flat_ropes(config, "rope_parameters");
      if (value.is_object()) out[name] = value;
    }
  }
  if (config.has("rope_scaling")) {
    const JsonObject stated = config.object("rope_scaling");
    for (const auto& [name, value] : stated.json().items()) {
      // (transformers would keep its own rope_type next to the older name "type".)
      if (value.is_object() || name == "type") {
        refuse_value(stated, name.c_str(), "settings of the global layers, with rope_type", json_text(value));
      }
      out["full_attention"][name] = value;
    }
  }
  return out;
}

void read_ropes(const JsonObject& config, ModelConfig* c) {
  const Json settings = rope_settings(config);
  for (const char* type : kLayerTypes) {
    const bool global = type == kLayerTypes[kGlobalRope];
    const char* key = global ? "rope_theta" : "rope_local_base_freq";
    const double theta = config.number_or(key, global ? 1e6 : 1e4);
    if (!(theta > 0)) refuse_value(config, key, "a positive number", fmt::format("{}", theta));
    const std::string path = config.path_of("rope_parameters") + "." + type;
    read_rope_of_layers(config, JsonObject(settings[type], config.file(), path), theta, c);
  }
}

// What would change numbers and is not computed.
void refuse_variants(const JsonObject& config) {
  require_flag(config, "use_bidirectional_attention", false, false);
  for (const char* key : {"final_logit_softcapping", "attn_logit_softcapping"}) {
    if (!config.has(key)) continue;
    throw Error(ErrorCode::kUnsupported, "a variant that this program does not do",
                {.file = config.file(),
                 .place = config.path_of(key),
                 .expected = "null",
                 .got = json_text(config.at(key))});
  }
}

ModelSpec parse_gemma3(const JsonObject& config) {
  ModelSpec spec;
  ModelConfig& c = spec.config;
  read_llama_form(config,
                  {.vocab_size = 262208,
                   .hidden_size = 2304,
                   .intermediate_size = 9216,
                   .n_layers = 26,
                   .n_heads = 8,
                   .n_kv_heads = 4,
                   .head_dim = 256,
                   .max_positions = 131072,
                   .activation_key = "hidden_activation",
                   .activation = "gelu_pytorch_tanh",
                   .tied = true,
                   .bos = 2,
                   .eos = 1},
                  &c);
  refuse_variants(config);
  c.norm_offset = 1;
  c.embed_scale = std::sqrt(static_cast<double>(c.hidden_size));
  read_ropes(config, &c);
  const double scalar = config.number_or("query_pre_attn_scalar", 256);
  if (!(scalar > 0))
    refuse_value(config, "query_pre_attn_scalar", "a positive number", fmt::format("{}", scalar));
  const bool bias = config.boolean_or("attention_bias", false);
  set_layers(&c, {.attention_scale = 1 / std::sqrt(scalar),
                  .norm_after = true,
                  .qk_norm = QkNorm::kHead,
                  .qkv_bias = bias,
                  .out_bias = bias});
  const std::vector<bool> local = read_local_layers(config, c.n_layers);
  set_windows(config, "sliding_window", local, read_sliding_window(config, 4096), &c);
  for (size_t l = 0; l < local.size(); ++l) c.layers[l].rope = local[l] ? kLocalRope : kGlobalRope;

  set_llama_names(&spec, [](int64_t layer) {
    LayerNames names = llama_layer_names(layer);
    const std::string base = fmt::format("layers.{}.", layer);
    names.post_norm1 = {base + "post_attention_layernorm"};
    names.norm2 = {base + "pre_feedforward_layernorm"};
    names.post_norm2 = {base + "post_feedforward_layernorm"};
    return names;
  });
  spec.other_prefixes = {"language_model.model.", "model.language_model."};
  spec.names.head_alternative = "language_model.lm_head.weight";
  spec.ignored_prefixes = {"vision_tower.", "multi_modal_projector.", "model.vision_tower.",
                           "model.multi_modal_projector."};
  return spec;
}

// Of multimodal models: `text_config`, and what stands next to it for the whole model.
Json gemma3_text_config(const JsonObject& config) {
  if (config.string_or("model_type", "") != "gemma3") return {};
  Json text = config.object("text_config").json();
  text.erase("tie_word_embeddings");
  for (const char* key : {"bos_token_id", "eos_token_id", "pad_token_id", "dtype", "torch_dtype",
                          "tie_word_embeddings", "quantization_config", "sepllm"}) {
    if (config.has(key)) text[key] = config.at(key);
  }
  text["model_type"] = "gemma3_text";
  text["architectures"] = {"Gemma3ForCausalLM"};
  return text;
}

Json new_gemma3(const NewModelSizes& s) {
  Json config = new_llama_form_without_padding(s);
  config.erase("hidden_act");
  config["hidden_activation"] = "gelu_pytorch_tanh";
  config["head_dim"] = s.hidden_size / s.n_heads;
  config["query_pre_attn_scalar"] = s.hidden_size / s.n_heads;
  config["rms_norm_eps"] = 1e-6;
  config["sliding_window"] = 512;
  config["sliding_window_pattern"] = 6;
  config["rope_local_base_freq"] = 10000.0;
  return config;
}

Json tiny_gemma3(const NewModelSizes& s) {
  return {{"intermediate_size", 3 * s.hidden_size},
          {"head_dim", 2 * s.hidden_size / s.n_heads},
          {"tie_word_embeddings", true},
          {"sliding_window", 24},
          {"sliding_window_pattern", 2},
          {"rope_theta", 1e6}};
}

}  // namespace

const Family& family_gemma3() {
  static const Family kFamily = {
      .name = "gemma3",
      .architecture = "Gemma3ForCausalLM",
      .model_types = {"gemma3_text", "gemma3"},
      .parse = parse_gemma3,
      .text_config = gemma3_text_config,
      .new_config = new_gemma3,
      .unused_settings = {{"rotary_pct", "gemma3 rotates all of each head"}},
      .variants = {{"gemma3", tiny_gemma3}},
  };
  return kFamily;
}

}  // namespace sepllm
