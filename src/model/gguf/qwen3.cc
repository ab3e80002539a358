// Qwen 3 in GGUF: rows as in the folder. (llama.cpp's convert_hf_to_gguf.py, Qwen3Model.)
#include "model/gguf/architecture.h"

namespace sepllm {
namespace {

Json qwen3_config(const GgufKeys& keys, const WeightStore& store) {
  Json out = gguf_llama_form(keys, "qwen3");
  out["attention_bias"] = store.has("blk.0.attn_q.bias");
  out["use_sliding_window"] = false;
  return out;
}

}  // namespace

const GgufArchitecture& gguf_qwen3() {
  static const GgufArchitecture kArchitecture = {
      "qwen3", {"qwen3"}, qwen3_config, nullptr, gguf_write_llama_form};
  return kArchitecture;
}

}  // namespace sepllm
