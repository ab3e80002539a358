#include "ops/ops.h"

#include "base/check.h"
#include "kernels/norm.h"

namespace sepllm::ops {

void norm(const Context& ctx, const Matrix& x, const NormOperands& operands, const Matrix& y) {
  SEPLLM_CHECK(x.n_rows == y.n_rows && x.n_cols == y.n_cols);
  if (operands.rms) {
    rms_norm(ctx, x, operands.weight, operands.eps, y);
  } else {
    layer_norm(ctx, x, operands.weight, operands.bias, operands.eps, y);
  }
}

void rope(const Context& ctx, const Matrix& qkv, const QkvHeads& heads, bool interleaved,
          const RopeTables& first, const RopeTables& second, const Matrix& second_q) {
  const RopeHeads q{.n_heads = heads.n_heads,
                    .head_dim = heads.head_dim,
                    .group = heads.n_heads / heads.n_kv_heads,
                    .group_stride = heads.q_group_stride,
                    .offset = 0,
                    .interleaved = interleaved};
  const RopeHeads k{.n_heads = heads.n_kv_heads,
                    .head_dim = heads.head_dim,
                    .group = 1,
                    .group_stride = heads.kv_stride,
                    .offset = heads.k_offset,
                    .interleaved = interleaved};
  if (second.cos != nullptr) rope_rotate(ctx, qkv, second_q, q, second.n_freq, second.cos, second.sin);
  rope_rotate(ctx, qkv, qkv, q, first.n_freq, first.cos, first.sin);
  rope_rotate(ctx, qkv, qkv, k, first.n_freq, first.cos, first.sin);
}

void attend(const Context& ctx, const AttentionArgs& args) { attention(ctx, args); }

void pattern_attend(const Context& ctx, const PatternAttentionArgs& args) { pattern_attention(ctx, args); }

}  // namespace sepllm::ops
