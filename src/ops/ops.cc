#include "ops/ops.h"

#include <algorithm>
#include <cstring>
#include <vector>

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

namespace {

// Rows of the kept positions, densely: keys and values [n_kv_heads][n][head_dim] each.
KeySpan gather(const Context& ctx, const Matrix& rows, const QkvHeads& heads, const int64_t* kept,
               int64_t n) {
  const int64_t size = heads.n_kv_heads * n * heads.head_dim;
  float* k = ctx.arena.allocate<float>(size);
  float* v = ctx.arena.allocate<float>(size);
  const auto bytes = static_cast<size_t>(heads.head_dim) * sizeof(float);
  for (int64_t g = 0; g < heads.n_kv_heads; ++g) {
    for (int64_t r = 0; r < n; ++r) {
      const float* row = rows.row(kept[r]) + g * heads.kv_stride;
      std::memcpy(k + (g * n + r) * heads.head_dim, row + heads.k_offset, bytes);
      std::memcpy(v + (g * n + r) * heads.head_dim, row + heads.v_offset, bytes);
    }
  }
  KeySpan span;
  span.k = k;
  span.v = v;
  span.slot_stride = heads.head_dim;
  span.head_stride = n * heads.head_dim;
  span.n_keys = n;
  span.positions = kept;
  span.encoded = kept;
  return span;
}

}  // namespace

std::span<const KeySpan> pattern_spans(const Context& ctx, const Matrix& rows, const QkvHeads& heads,
                                       const Pattern& pattern) {
  SEPLLM_CHECK(pattern.document_starts.empty());
  const std::vector<int64_t> all =
      pattern.window >= rows.n_rows ? std::vector<int64_t>{} : pattern.kept(rows.n_rows);
  // A key within the window of the last query is never read from the gathered list.
  const auto n_kept =
      std::upper_bound(all.begin(), all.end(), rows.n_rows - 1 - pattern.window) - all.begin();
  auto* spans = ctx.arena.allocate<KeySpan>(2);
  size_t n = 0;
  if (n_kept > 0) {
    auto* kept = ctx.arena.allocate<int64_t>(n_kept);
    std::copy_n(all.begin(), n_kept, kept);
    spans[n] = gather(ctx, rows, heads, kept, n_kept);
    spans[n++].lag = pattern.window;
  }
  KeySpan band;
  band.k = rows.data + heads.k_offset;
  band.v = rows.data + heads.v_offset;
  band.slot_stride = rows.stride;
  band.head_stride = heads.kv_stride;
  band.n_keys = rows.n_rows;
  band.window = pattern.window;
  spans[n++] = band;
  return {spans, n};
}

void attend(const Context& ctx, const AttentionArgs& args) { attention(ctx, args); }

}  // namespace sepllm::ops
