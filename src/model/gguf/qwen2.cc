// Qwen 2 and 2.5 in GGUF: rows as in the folder. (llama.cpp's convert_hf_to_gguf.py, Qwen2Model.) The file
// says nothing about a sliding window: published models do not use theirs.
#include "model/gguf/architecture.h"

namespace sepllm {
namespace {

Json qwen2_config(const GgufKeys& keys, const WeightStore&) {
  Json out = gguf_llama_form(keys, "qwen2");
  out["use_sliding_window"] = false;
  return out;
}

}  // namespace

const GgufArchitecture& gguf_qwen2() {
  static const GgufArchitecture kArchitecture = {
      "qwen2", {"qwen2"}, qwen2_config, nullptr, gguf_write_llama_form};
  return kArchitecture;
}

}  // namespace sepllm
