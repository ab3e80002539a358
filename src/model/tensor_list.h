// The tensors that a model has, in one place: loading fills them in, the generator of random models writes
// them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/check.h"
#include "model/config.h"
#include "model/stored_names.h"
#include "model/weights.h"

namespace sepllm {

// Output rows of each matrix in `names.qkv`: the fused one, or q, k, v.
inline std::vector<int64_t> qkv_rows(const ModelConfig& c, size_t n_matrices) {
  if (n_matrices == 1) return {c.qkv_dim()};
  SEPLLM_CHECK(n_matrices == 3);
  return {c.n_heads * c.head_dim, c.n_kv_heads * c.head_dim, c.n_kv_heads * c.head_dim};
}

// Calls for each tensor of a layer, in order of use:
//   visitor.norm(Norm&, weight name, bias name)
//   visitor.linear(Linear&, weight name, bias name, n_out, n_in)
// with full names; an empty bias name: none.
template <typename Visitor>
void visit_layer(const ModelConfig& c, const LayerNames& names, const std::string& prefix, LayerWeights* out,
                 Visitor& visitor) {
  const auto full = [&](const std::string& name) { return name.empty() ? name : prefix + name; };
  const auto norm = [&](Norm& slot, const NormNames& n) {
    if (!n.weight.empty()) visitor.norm(slot, full(n.weight), full(n.bias));
  };
  const auto linear = [&](Linear& slot, const LinearNames& n, int64_t n_out, int64_t n_in) {
    visitor.linear(slot, full(n.weight), full(n.bias), n_out, n_in);
  };
  norm(out->norm1, names.norm1);
  const std::vector<int64_t> rows = qkv_rows(c, names.qkv.size());
  out->qkv.resize(rows.size());
  int64_t offset = 0;
  for (size_t i = 0; i < rows.size(); ++i) {
    linear(out->qkv[i], names.qkv[i], rows[i], c.hidden_size);
    out->qkv[i].out_offset = offset;
    offset += rows[i];
  }
  linear(out->attention_out, names.attention_out, c.hidden_size, c.n_heads * c.head_dim);
  norm(out->norm2, names.norm2);
  if (c.gated_mlp) linear(out->mlp_gate.emplace(), names.mlp_gate, c.intermediate_size, c.hidden_size);
  linear(out->mlp_up, names.mlp_up, c.intermediate_size, c.hidden_size);
  linear(out->mlp_down, names.mlp_down, c.hidden_size, c.intermediate_size);
}

// The same for the whole model, and visitor.table(Weight&, name, rows, columns) for the embeddings and an
// untied head. A tied head is left to the caller.
template <typename Visitor>
void visit_model(const ModelSpec& spec, const StoredNames& stored, ModelWeights* out, Visitor& visitor) {
  const ModelConfig& c = spec.config;
  const std::string& prefix = stored.prefix;
  visitor.table(out->token_embedding, stored.token_embedding, c.vocab_size, c.hidden_size);
  if (c.position == PositionType::kLearned) {
    visitor.table(out->position_embedding, prefix + spec.names.position_embedding, c.max_positions,
                  c.hidden_size);
  }
  out->layers.resize(spec.names.layers.size());
  for (size_t i = 0; i < out->layers.size(); ++i) {
    visit_layer(c, spec.names.layers[i], prefix, &out->layers[i], visitor);
  }
  const NormNames& norm = spec.names.final_norm;
  visitor.norm(out->final_norm, prefix + norm.weight, norm.bias.empty() ? "" : prefix + norm.bias);
  if (!stored.tied) visitor.table(out->head.weight, stored.head, c.vocab_size, c.hidden_size);
}

}  // namespace sepllm
