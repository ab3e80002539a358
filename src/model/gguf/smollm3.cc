// SmolLM 3 in GGUF: rows of q and k in pairs, as of llama. (llama.cpp's convert_hf_to_gguf.py, SmolLM3Model.)
// The file does not say which layers do not rotate: every fourth, as llama.cpp has it.
#include <cstdint>

#include "model/gguf/architecture.h"

namespace sepllm {
namespace {

constexpr int64_t kInterval = 4;

Json smollm3_config(const GgufKeys& keys, const WeightStore& store) {
  Json out = gguf_llama_form(keys, "smollm3");
  out["no_rope_layer_interval"] = kInterval;
  out["use_sliding_window"] = false;
  out["attention_bias"] = store.has("blk.0.attn_q.bias");
  out["mlp_bias"] = store.has("blk.0.ffn_up.bias");
  return out;
}

void smollm3_write(const ModelConfig& c, GgufTarget* target) {
  for (int64_t l = 0; l < c.n_layers; ++l) {
    if ((c.rope_of(l) == nullptr) != ((l + 1) % kInterval == 0))
      target->refuse("layers without rope that are not every fourth");
  }
  gguf_write_llama_form(c, target);
}

}  // namespace

const GgufArchitecture& gguf_smollm3() {
  static const GgufArchitecture kArchitecture = {
      "smollm3", {"smollm3"}, smollm3_config, gguf_pair_queries_and_keys, smollm3_write};
  return kArchitecture;
}

}  // namespace sepllm
