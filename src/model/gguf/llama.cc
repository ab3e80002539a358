// Llama in GGUF, and what is converted as Llama (Mistral, SmolLM, TinyLlama, Vicuna): the two halves of each
// head's rows of q and k lie in pairs, and rope_freqs has the factors by which Llama 3.1's scaling divides
// frequencies. (llama.cpp's convert_hf_to_gguf.py, LlamaModel.)
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numbers>
#include <utility>
#include <vector>

#include "base/error.h"
#include "model/gguf/architecture.h"

namespace sepllm {
namespace {

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
  const std::vector<float> factors = gguf_factors(store, kGgufRopeFactors, head_dim / 2);
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

Json llama_config(const GgufKeys& keys, const WeightStore& store) {
  keys.require("attention.sliding_window", 0.0);
  Json out = gguf_llama_form(keys, "llama");
  out["attention_bias"] = store.has("blk.0.attn_q.bias");
  out["mlp_bias"] = store.has("blk.0.ffn_up.bias");
  if (!store.has(kGgufRopeFactors)) return out;
  if (out.contains("rope_scaling"))
    keys.refuse("rope.scaling.type", "scaling of positions in addition to rope_freqs", "none", "one");
  Json scaling = llama3_scaling(keys, store, out["rope_theta"], out["head_dim"]);
  if (!scaling.is_null()) out["rope_scaling"] = std::move(scaling);
  return out;
}

}  // namespace

const GgufArchitecture& gguf_llama() {
  static const GgufArchitecture kArchitecture = {
      "llama", {"llama", "mistral"}, llama_config, gguf_pair_queries_and_keys, gguf_write_llama_form};
  return kArchitecture;
}

}  // namespace sepllm
