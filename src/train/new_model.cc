#include "train/new_model.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "base/check.h"
#include "base/rng.h"
#include "base/sign_of_life.h"

namespace sepllm {
namespace {

void update(Json* config, const Json& more) { config->update(more); }

}  // namespace

Json new_model_config(const TrainConfig& c, int64_t vocab_size, int64_t bos, int64_t eos) {
  Json j = {{"model_type", c.family}, {"vocab_size", vocab_size}, {"torch_dtype", "float32"}};
  j["bos_token_id"] = bos >= 0 ? Json(bos) : Json();
  j["eos_token_id"] = eos >= 0 ? Json(eos) : Json();
  j["tie_word_embeddings"] = c.tie_embeddings || c.family == "gpt2";
  const int64_t four = c.intermediate_size > 0 ? c.intermediate_size : 4 * c.hidden_size;
  const int64_t kv_heads = c.n_kv_heads > 0 ? c.n_kv_heads : c.n_heads;
  if (c.family == "gpt_neox") {
    j["architectures"] = {"GPTNeoXForCausalLM"};
    update(&j, {{"hidden_size", c.hidden_size},
                {"intermediate_size", four},
                {"num_hidden_layers", c.n_layers},
                {"num_attention_heads", c.n_heads},
                {"max_position_embeddings", c.seq_length},
                {"hidden_act", "gelu"},
                {"layer_norm_eps", 1e-5},
                {"rotary_emb_base", c.rope_theta},
                {"rotary_pct", c.rotary_pct},
                {"use_parallel_residual", true}});
  } else if (c.family == "llama") {
    const int64_t gated =
        c.intermediate_size > 0 ? c.intermediate_size : (c.hidden_size * 8 / 3 + 63) / 64 * 64;
    j["architectures"] = {"LlamaForCausalLM"};
    update(&j, {{"hidden_size", c.hidden_size},
                {"intermediate_size", gated},
                {"num_hidden_layers", c.n_layers},
                {"num_attention_heads", c.n_heads},
                {"num_key_value_heads", kv_heads},
                {"max_position_embeddings", c.seq_length},
                {"hidden_act", "silu"},
                {"rms_norm_eps", 1e-5},
                {"rope_theta", c.rope_theta}});
  } else if (c.family == "gpt2") {
    j["architectures"] = {"GPT2LMHeadModel"};
    update(&j, {{"n_embd", c.hidden_size},
                {"n_layer", c.n_layers},
                {"n_head", c.n_heads},
                {"n_positions", c.seq_length},
                {"n_inner", four},
                {"activation_function", "gelu_new"},
                {"layer_norm_epsilon", 1e-5}});
  } else {
    SEPLLM_CHECK(c.family == "falcon");
    j["architectures"] = {"FalconForCausalLM"};
    update(&j, {{"hidden_size", c.hidden_size},
                {"num_hidden_layers", c.n_layers},
                {"num_attention_heads", c.n_heads},
                {"num_kv_heads", kv_heads},
                {"ffn_hidden_size", four},
                {"max_position_embeddings", c.seq_length},
                {"layer_norm_epsilon", 1e-5},
                {"rope_theta", c.rope_theta},
                {"new_decoder_architecture", true},
                {"multi_query", false},
                {"parallel_attn", true},
                {"alibi", false},
                {"bias", false}});
  }
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
  const auto norm_weight = static_cast<float>(1 - spec.config.norm_offset);
  uint64_t stream = 0;
  for (const ParameterInfo& p : parameters->list()) {
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
