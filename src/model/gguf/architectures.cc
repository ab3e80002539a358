#include <fmt/format.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "base/error.h"
#include "model/gguf/architecture.h"

namespace sepllm {

// Each is defined in its own file; the order is that of messages.
#define SEPLLM_GGUF_ARCHITECTURES(X) \
  X(llama) X(qwen2) X(qwen3) X(gemma3) X(phi3) X(smollm3) X(olmo2) X(gptneox) X(gpt2) X(falcon)

#define SEPLLM_GGUF_DECLARE(NAME) const GgufArchitecture& gguf_##NAME();
SEPLLM_GGUF_ARCHITECTURES(SEPLLM_GGUF_DECLARE)
#undef SEPLLM_GGUF_DECLARE

const std::vector<const GgufArchitecture*>& gguf_architectures() {
#define SEPLLM_GGUF_ADDRESS(NAME) &gguf_##NAME(),
  static const std::vector<const GgufArchitecture*> kAll = {SEPLLM_GGUF_ARCHITECTURES(SEPLLM_GGUF_ADDRESS)};
#undef SEPLLM_GGUF_ADDRESS
  return kAll;
}

const GgufArchitecture* find_gguf_architecture(const std::string& name) {
  for (const GgufArchitecture* a : gguf_architectures()) {
    if (name == a->name) return a;
  }
  return nullptr;
}

int64_t gguf_vocab_size(const WeightStore& store) {
  if (!store.has(kGgufEmbedding)) {
    throw Error(ErrorCode::kNotFound, "tensor is missing", {.file = store.folder(), .place = kGgufEmbedding});
  }
  return store.tensor(kGgufEmbedding).shape.front();
}

namespace {

LayerNames layer_names(int64_t layer, const LayerNames& usual) {
  const auto named = [&](const char* name) { return fmt::format("blk.{}.{}", layer, name); };
  LayerNames out;
  out.norm1 = {named("attn_norm")};
  if (usual.qkv.size() == 1) {
    out.qkv = {{named("attn_qkv")}};
  } else {
    for (const char* part : {"attn_q", "attn_k", "attn_v"}) out.qkv.push_back({named(part)});
  }
  out.q_norm = {named("attn_q_norm")};
  out.k_norm = {named("attn_k_norm")};
  out.attention_out = {named("attn_output")};
  out.post_norm1 = {named("post_attention_norm")};
  out.norm2 = {named("ffn_norm")};
  if (usual.mlp_in.size() == 2) out.mlp_in.push_back({named("ffn_gate")});
  out.mlp_in.push_back({named("ffn_up")});
  out.mlp_down = {named("ffn_down")};
  out.post_norm2 = {named("post_ffw_norm")};
  return out;
}

}  // namespace

TensorNames gguf_names(const TensorNames& usual) {
  TensorNames out;
  out.token_embedding = kGgufEmbedding;
  out.position_embedding = "position_embd.weight";
  out.final_norm = {"output_norm"};
  out.head = kGgufHead;
  for (size_t l = 0; l < usual.layers.size(); ++l)
    out.layers.push_back(layer_names(static_cast<int64_t>(l), usual.layers[l]));
  return out;
}

ModelSpec gguf_spec(const GgufArchitecture& architecture, ModelSpec spec) {
  spec.prefix.clear();
  spec.other_prefixes.clear();
  spec.names = gguf_names(spec.names);
  spec.ignored_suffixes = {std::string(".") + kGgufRopeFactors};
  if (architecture.adapt != nullptr) architecture.adapt(&spec);
  return spec;
}

void set_row_order(const LinearName& name, const RowOrder& order, ModelSpec* spec) {
  spec->row_orders[name.weight()] = order;
  spec->row_orders[name.bias()] = order;
}

Json gguf_rope_scaling(const GgufKeys& keys) {
  for (const char* key : {"rope.scaling.attn_factor", "rope.scale_linear"}) keys.require(key, 1.0);
  const std::string type = keys.metadata().string_or(keys.of("rope.scaling.type"), "none");
  if (type == "none") return nullptr;
  if (type != "linear" && type != "yarn")
    keys.refuse("rope.scaling.type", "unknown scaling of positions", "none, linear or yarn", type);
  Json scaling = {{"rope_type", type}, {"factor", keys.number("rope.scaling.factor")}};
  if (type == "linear") return scaling;
  scaling["original_max_position_embeddings"] = keys.size("rope.scaling.original_context_length", INT32_MAX);
  // The constants of llama.cpp are those of transformers, where the file does not state others.
  for (const char* key : {"rope.scaling.yarn_log_multiplier", "rope.scaling.yarn_ext_factor",
                          "rope.scaling.yarn_attn_factor"}) {
    if (keys.has(key)) keys.refuse(key, "a setting that is not supported", "none", "one");
  }
  for (const char* name : {"beta_fast", "beta_slow"}) {
    const std::string key = fmt::format("rope.scaling.yarn_{}", name);
    if (keys.has(key.c_str())) scaling[name] = keys.number(key.c_str());
  }
  return scaling;
}

}  // namespace sepllm
