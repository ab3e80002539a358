#include "train/new_model.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <set>
#include <string>

#include "base/rng.h"
#include "base/sign_of_life.h"
#include "model/families/family.h"
#include "model/layer_parts.h"

namespace sepllm {

Json new_model_config(const TrainConfig& c, int64_t vocab_size, int64_t bos, int64_t eos) {
  const Family& family = family_of_name(c.family);
  Json j = {
      {"model_type", family.model_types.front()}, {"vocab_size", vocab_size}, {"torch_dtype", "float32"}};
  j["bos_token_id"] = bos >= 0 ? Json(bos) : Json();
  j["eos_token_id"] = eos >= 0 ? Json(eos) : Json();
  j["tie_word_embeddings"] = c.tie_embeddings || family.always_tied;
  j["architectures"] = {family.architecture};
  j.update(family.new_config({.hidden_size = c.hidden_size,
                              .n_layers = c.n_layers,
                              .n_heads = c.n_heads,
                              .n_kv_heads = c.n_kv_heads > 0 ? c.n_kv_heads : c.n_heads,
                              .intermediate_size = c.intermediate_size,
                              .max_positions = c.seq_length,
                              .rotary_pct = c.rotary_pct,
                              .rope_theta = c.rope_theta}));
  return j;
}

void initialise(Parameters* parameters, const ModelSpec& spec, const std::string& init, uint64_t seed) {
  const auto width = static_cast<double>(spec.config.hidden_size);
  const auto layers = static_cast<double>(spec.config.n_layers);
  const bool pythia = init == "pythia";
  const double usual = pythia ? std::sqrt(2.0 / (5.0 * width)) : 0.02;
  const double residual = pythia ? 2.0 / (layers * std::sqrt(width)) : 0.02 / std::sqrt(2.0 * layers);
  std::set<std::string> to_residual, norms;
  for (const LayerNames& names : spec.names.layers) {
    to_residual.insert(spec.prefix + names.attention_out.weight());
    to_residual.insert(spec.prefix + names.mlp_down.weight());
    for_each_part(Overloaded{[&](const NormName& name) { norms.insert(spec.prefix + name.weight()); },
                             [](const LinearName&) {}},
                  names);
  }
  norms.insert(spec.prefix + spec.names.final_norm.weight());
  const std::set<std::string> gates = gate_names(spec);
  const auto norm_weight = static_cast<float>(1 - spec.config.norm_offset);
  uint64_t stream = 0;
  for (const ParameterInfo& p : parameters->list()) {
    // Gates begin half open, and take no random numbers: the other weights are those of the model without
    // them.
    if (gates.contains(p.name)) {
      std::fill_n(parameters->values(p), p.size, 0.0F);
      continue;
    }
    const Rng rng(seed, stream++);
    float* values = parameters->values(p);
    if (p.decays) {
      const double deviation = to_residual.contains(p.name) ? residual : usual;
      for (int64_t i = 0; i < p.size; ++i) {
        if (i % 65'536 == 0) sign_of_life();
        values[i] = static_cast<float>(deviation * rng.normal(static_cast<uint64_t>(i)));
      }
    } else {
      std::fill_n(values, p.size, norms.contains(p.name) ? norm_weight : 0.0F);
    }
  }
}

}  // namespace sepllm
