// OLMo 2 in GGUF: rows as in the folder. (llama.cpp's convert_hf_to_gguf.py, Olmo2Model.)
#include "model/gguf/architecture.h"

namespace sepllm {
namespace {

Json olmo2_config(const GgufKeys& keys, const WeightStore& store) {
  keys.require("attention.sliding_window", 0.0);  // OLMo 3
  Json out = gguf_llama_form(keys, "olmo2");
  out["attention_bias"] = store.has("blk.0.attn_q.bias");
  return out;
}

}  // namespace

const GgufArchitecture& gguf_olmo2() {
  static const GgufArchitecture kArchitecture = {
      "olmo2", {"olmo2"}, olmo2_config, nullptr, gguf_write_llama_form};
  return kArchitecture;
}

}  // namespace sepllm
