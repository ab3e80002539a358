// Llama in GGUF, and what is converted as Llama (Mistral, SmolLM, TinyLlama, Vicuna): the two halves of each
// head's rows of q and k lie in pairs, and rope_freqs has the factors by which Llama 3.1's scaling divides
// frequencies. (llama.cpp's convert_hf_to_gguf.py, LlamaModel.)
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <numbers>
#include <vector>

#include "base/error.h"
#include "model/families/common.h"
#include "model/gguf/architecture.h"

namespace sepllm {
namespace {

std::vector<float> read_rope_factors(const WeightStore& store, int64_t n) {
  const StoredTensor& t = store.tensor(kGgufRopeFactors);
  if (t.type != DType::kF32 || t.shape != std::vector<int64_t>{n}) {
    throw Error(ErrorCode::kBadFile, "wrong factors of rope frequencies",
                {.file = t.file, .place = t.name, .expected = fmt::format("F32 [{}]", n), .got = t.dtype});
  }
  std::vector<float> factors(static_cast<size_t>(n));
  std::memcpy(factors.data(), t.data, factors.size() * sizeof(float));
  return factors;
}

constexpr double kLow = 1, kHigh = 4;  // low_freq_factor, high_freq_factor of all Llamas

double wavelength(double theta, size_t i, int64_t head_dim) {
  return 2 * std::numbers::pi * std::pow(theta, 2.0 * static_cast<double>(i) / static_cast<double>(head_dim));
}

// The length for which the model was trained before its positions were scaled, found from the factors.
double trained_length(const std::vector<float>& factors, double theta, int64_t head_dim) {
  const double largest = *std::max_element(factors.begin(), factors.end());
  double least = 0, most = INFINITY;
  for (size_t i = 0; i < factors.size(); ++i) {
    const double wave = wavelength(theta, i, head_dim);
    if (factors[i] <= 1) {
      least = std::max(least, kHigh * wave);
    } else if (factors[i] >= largest) {
      most = std::min(most, kLow * wave);
    } else {  // between them a mixture says it exactly
      const double share = (1 / factors[i] - 1 / largest) / (1 - 1 / largest);
      return std::round(wave * (kLow + share * (kHigh - kLow)));
    }
  }
  constexpr double kUsual = 8192;
  return kUsual > least && kUsual < most ? kUsual : std::ceil(least + 1);
}

// The settings of config.json's "llama3" from which the converter computes these factors, which are compared
// with them: nothing is guessed.
Json llama3_scaling(const GgufKeys& keys, const WeightStore& store, double theta, int64_t head_dim) {
  const std::vector<float> factors = read_rope_factors(store, head_dim / 2);
  const double factor = factors.empty() ? 1 : *std::max_element(factors.begin(), factors.end());
  if (std::all_of(factors.begin(), factors.end(), [](float f) { return f == 1; })) return nullptr;
  const double trained = trained_length(factors, theta, head_dim);
  for (size_t i = 0; i < factors.size(); ++i) {
    const double wave = wavelength(theta, i, head_dim);
    const double smooth = (trained / wave - kLow) / (kHigh - kLow);
    const double expected = wave < trained / kHigh  ? 1
                            : wave > trained / kLow ? factor
                                                    : 1 / ((1 - smooth) / factor + smooth);
    if (std::abs(factors[i] - expected) <= 1e-4 * expected) continue;
    throw Error(ErrorCode::kUnsupported, "factors of rope frequencies that are not those of Llama 3.1",
                {.file = keys.metadata().file(),
                 .place = fmt::format("{}, element {}", kGgufRopeFactors, i),
                 .expected = fmt::format("{:.6g}", expected),
                 .got = fmt::format("{:.6g}", factors[i])});
  }
  return {{"rope_type", "llama3"},
          {"factor", factor},
          {"low_freq_factor", kLow},
          {"high_freq_factor", kHigh},
          {"original_max_position_embeddings", static_cast<int64_t>(trained)}};
}

void add_rope(const GgufKeys& keys, const WeightStore& store, int64_t head_dim, Json* out) {
  const double theta = keys.number_or("rope.freq_base", 10000.0);
  (*out)["rope_theta"] = theta;
  Json scaling = gguf_rope_scaling(keys);
  if (store.has(kGgufRopeFactors)) {
    if (!scaling.is_null())
      keys.refuse("rope.scaling.type", "scaling of positions in addition to rope_freqs", "none", "one");
    scaling = llama3_scaling(keys, store, theta, head_dim);
  }
  if (!scaling.is_null()) (*out)["rope_scaling"] = scaling;
}

Json llama_config(const GgufKeys& keys, const WeightStore& store) {
  const int64_t n_heads = keys.size("attention.head_count", kMaxHeads);
  const int64_t hidden = keys.size("embedding_length", kMaxHidden);
  const int64_t head_dim =
      keys.size_or("attention.key_length", std::max<int64_t>(hidden / n_heads, 1), kMaxHeadDim);
  for (const char* key : {"attention.value_length", "rope.dimension_count"})
    keys.require(key, static_cast<double>(head_dim));
  for (const char* key : {"expert_count", "attention.sliding_window"}) keys.require(key, 0.0);
  Json out = {{"model_type", "llama"},
              {"hidden_size", hidden},
              {"num_hidden_layers", keys.size("block_count", kMaxLayers)},
              {"intermediate_size", keys.size("feed_forward_length", kMaxIntermediate)},
              {"num_attention_heads", n_heads},
              {"num_key_value_heads", keys.size_or("attention.head_count_kv", n_heads, n_heads)},
              {"head_dim", head_dim},
              {"max_position_embeddings", keys.size("context_length", kMaxPositions)},
              {"rms_norm_eps", keys.number("attention.layer_norm_rms_epsilon")},
              {"hidden_act", "silu"},
              {"attention_bias", store.has("blk.0.attn_q.bias")},
              {"mlp_bias", store.has("blk.0.ffn_up.bias")}};
  add_rope(keys, store, head_dim, &out);
  return out;
}

void llama_adapt(ModelSpec* spec) {
  const ModelConfig& c = spec->config;
  const RowOrder q = paired_rows(c.n_heads, c.head_dim), k = paired_rows(c.n_kv_heads, c.head_dim);
  for (const LayerNames& layer : spec->names.layers) {
    set_row_order(layer.qkv[0], q, spec);
    set_row_order(layer.qkv[1], k, spec);
  }
}

void llama_write(const ModelConfig& c, GgufTarget* target) {
  if (c.activation != Activation::kSilu) target->refuse("another activation than silu");
  GgufFields& fields = target->model->fields;
  for (const char* key : {"attention.key_length", "attention.value_length"})
    fields.u32(target->prefix + key, static_cast<uint32_t>(c.head_dim));
  gguf_write_rope(c, target);
}

}  // namespace

const GgufArchitecture& gguf_llama() {
  static const GgufArchitecture kArchitecture = {"llama", {"llama"}, llama_config, llama_adapt, llama_write};
  return kArchitecture;
}

}  // namespace sepllm
