#include "model/families/llama_form.h"

#include <fmt/format.h>

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"

namespace sepllm {
namespace {

int64_t size_or(const JsonObject& config, const char* key, int64_t fallback, int64_t max) {
  return fallback == 0 ? config.integer(key, 1, max) : config.integer_or(key, fallback, 1, max);
}

int64_t read_kv_heads(const JsonObject& config, int64_t fallback, int64_t n_heads) {
  const char* key = "num_key_value_heads";
  const bool is_null = config.json().contains(key) && !config.has(key);
  const int64_t n = is_null || fallback == 0 ? config.integer_or(key, n_heads, 1, n_heads)
                                             : config.integer_or(key, fallback, 1, n_heads);
  if (n > n_heads || n_heads % n != 0) {
    refuse_value(config, key, fmt::format("a divisor of the {} heads", n_heads), std::to_string(n));
  }
  return n;
}

// Where the class has a number as its default, null is none of its values.
int64_t read_head_dim(const JsonObject& config, int64_t fallback, const ModelConfig& c) {
  if (config.has("head_dim")) return config.integer("head_dim", 1, kMaxHeadDim);
  if (fallback == 0) return divided_head_dim(config, "num_attention_heads", c.hidden_size, c.n_heads);
  if (config.json().contains("head_dim")) refuse_value(config, "head_dim", "a number", "null");
  return fallback;
}

}  // namespace

void read_llama_form(const JsonObject& config, const LlamaDefaults& d, ModelConfig* c) {
  c->vocab_size = size_or(config, "vocab_size", d.vocab_size, kMaxVocab);
  c->hidden_size = size_or(config, "hidden_size", d.hidden_size, kMaxHidden);
  c->n_layers = size_or(config, "num_hidden_layers", d.n_layers, kMaxLayers);
  c->intermediate_size = size_or(config, "intermediate_size", d.intermediate_size, kMaxIntermediate);
  c->max_positions = config.integer_or("max_position_embeddings", d.max_positions, 1, kMaxPositions);
  c->n_heads = size_or(config, "num_attention_heads", d.n_heads, kMaxHeads);
  c->n_kv_heads = read_kv_heads(config, d.n_kv_heads, c->n_heads);
  c->head_dim = read_head_dim(config, d.head_dim, *c);
  c->qkv = separate_qkv(c->n_heads, c->n_kv_heads);
  c->norm = NormType::kRmsNorm;
  c->norm_eps = read_epsilon(config, "rms_norm_eps", d.norm_eps);
  c->block = BlockType::kSequential;
  c->activation = read_activation(config, d.activation_key, d.activation);
  c->gated_mlp = true;
  c->tied_embeddings = config.boolean_or("tie_word_embeddings", d.tied);
  read_token_ids(config, d.bos, d.eos, c);
}

LayerNames llama_layer_names(int64_t layer) {
  const std::string base = fmt::format("layers.{}.", layer);
  LayerNames names;
  names.norm1 = {base + "input_layernorm"};
  names.norm2 = {base + "post_attention_layernorm"};
  for (const char* part : {"q_proj", "k_proj", "v_proj"}) names.qkv.push_back({base + "self_attn." + part});
  names.q_norm = {base + "self_attn.q_norm"};
  names.k_norm = {base + "self_attn.k_norm"};
  names.attention_out = {base + "self_attn.o_proj"};
  names.mlp_in = {{base + "mlp.gate_proj"}, {base + "mlp.up_proj"}};
  names.mlp_down = {base + "mlp.down_proj"};
  return names;
}

LayerNames fused_layer_names(int64_t layer) {
  const std::string base = fmt::format("layers.{}.", layer);
  LayerNames names = llama_layer_names(layer);
  names.qkv = {{base + "self_attn.qkv_proj"}};
  names.mlp_in = {{base + "mlp.gate_up_proj"}};
  return names;
}

void set_llama_names(ModelSpec* spec, LayerNames (*names)(int64_t layer)) {
  spec->prefix = "model.";
  spec->ignored_suffixes = {".inv_freq"};
  spec->names.token_embedding = "embed_tokens.weight";
  spec->names.final_norm = {"norm"};
  spec->names.head = "lm_head.weight";
  for (int64_t l = 0; l < spec->config.n_layers; ++l) spec->names.layers.push_back(names(l));
}

Json new_llama_form(const NewModelSizes& s) {
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

Json new_llama_form_without_padding(const NewModelSizes& s) {
  Json config = new_llama_form(s);
  config["pad_token_id"] = nullptr;
  return config;
}

std::optional<std::vector<bool>> read_layer_types(const JsonObject& config, int64_t n_layers) {
  const char* key = "layer_types";
  if (!config.has(key)) return std::nullopt;
  const Json& types = config.at(key);
  if (!types.is_array() || std::ssize(types) != n_layers) {
    refuse_value(config, key, fmt::format("a list of {} types of layers", n_layers),
                 types.is_array() ? fmt::format("{} elements", types.size()) : json_text(types));
  }
  std::vector<bool> local;
  for (const Json& type : types) {
    if (type != "sliding_attention" && type != "full_attention") {
      throw Error(ErrorCode::kUnsupported, "unknown type of layer",
                  {.file = config.file(),
                   .place = config.path_of(key),
                   .expected = "full_attention or sliding_attention",
                   .got = json_text(type)});
    }
    local.push_back(type == "sliding_attention");
  }
  return local;
}

int64_t read_sliding_window(const JsonObject& config, int64_t fallback) {
  const char* key = "sliding_window";
  if (config.json().contains(key) && !config.has(key)) return 0;
  return config.integer_or(key, fallback, 1, kMaxPositions);
}

void set_windows(const JsonObject& config, const char* place, const std::vector<bool>& local, int64_t window,
                 ModelConfig* out) {
  for (size_t l = 0; l < out->layers.size(); ++l) {
    if (!local[l]) continue;
    if (window == 0) {
      refuse_value(config, place, "full attention only, as the model has no sliding window in force",
                   "sliding_attention");
    }
    out->layers[l].window = window;
  }
}

void set_qwen_windows(const JsonObject& config, ModelConfig* out) {
  const bool used = config.boolean_or("use_sliding_window", false);
  const int64_t stated = read_sliding_window(config, 4096);
  const int64_t window = used ? stated : 0;
  const int64_t n_full = config.integer_or("max_window_layers", 28, 0, kMaxLayers);
  std::vector<bool> local;
  for (int64_t l = 0; l < out->n_layers; ++l) local.push_back(window > 0 && l >= n_full);
  set_windows(config, "layer_types", read_layer_types(config, out->n_layers).value_or(local), window, out);
}

}  // namespace sepllm
