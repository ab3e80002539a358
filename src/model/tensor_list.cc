#include "model/tensor_list.h"

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/check.h"

namespace sepllm {
namespace {

// Output rows of the matrices whose outputs follow each other in the QKV row.
void set_qkv(const ModelConfig& c, const LayerSpec& layer, size_t n_matrices, LayerShapes* out) {
  const int64_t q = c.n_heads * c.head_dim, kv = c.n_kv_heads * c.head_dim;
  const std::vector<int64_t> rows = n_matrices == 1 ? std::vector{c.qkv_dim()} : std::vector{q, kv, kv};
  SEPLLM_CHECK(rows.size() == n_matrices);
  int64_t offset = 0;
  for (const int64_t n : rows) {
    out->qkv.push_back({n, c.hidden_size, layer.qkv_bias, offset});
    offset += n;
  }
}

void set_mlp(const ModelConfig& c, const LayerSpec& layer, size_t n_matrices, LayerShapes* out) {
  const auto wanted = static_cast<size_t>(c.gated_mlp ? 2 : 1);
  SEPLLM_CHECK(n_matrices == 1 || n_matrices == wanted);
  const int64_t rows = static_cast<int64_t>(wanted / n_matrices) * c.intermediate_size;
  out->mlp_in.assign(n_matrices, {rows, c.hidden_size, layer.mlp_bias});
  out->mlp_down = {c.hidden_size, c.intermediate_size, layer.mlp_bias};
}

}  // namespace

LayerShapes layer_shapes(const ModelConfig& c, int64_t l, const LayerNames& names) {
  const LayerSpec& layer = c.layer(l);
  const NormShape norm{c.hidden_size, c.norm == NormType::kLayerNorm};
  LayerShapes out;
  if (layer.norm_before) out.norm1 = norm;
  if (layer.norm_before && c.block != BlockType::kParallelShared) out.norm2 = norm;
  if (layer.norm_after) out.post_norm1 = out.post_norm2 = norm;
  if (layer.qk_norm == QkNorm::kHead) out.q_norm = out.k_norm = {c.head_dim};
  if (layer.qk_norm == QkNorm::kRow) {
    out.q_norm = {c.n_heads * c.head_dim};
    out.k_norm = {c.n_kv_heads * c.head_dim};
  }
  set_qkv(c, layer, names.qkv.size(), &out);
  if (layer.nsa_gates) out.gates = {3 * c.n_heads, c.hidden_size};
  out.attention_out = {c.hidden_size, c.n_heads * c.head_dim, layer.out_bias};
  set_mlp(c, layer, names.mlp_in.size(), &out);
  return out;
}

}  // namespace sepllm
