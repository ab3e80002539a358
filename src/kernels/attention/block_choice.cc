#include "kernels/attention/block_choice.h"

#include <algorithm>
#include <cstdint>
#include <iterator>

#include "attention/block_rule.h"
#include "base/check.h"
#include "kernels/attention/attention_task.h"
#include "kernels/formats/element.h"
#include "kernels/formats/rows.h"
#include "kernels/parallel.h"

namespace sepllm {

void block_mean(const KeySpan& keys, DType type, int64_t kv_head, int64_t row, int64_t n, int64_t head_dim,
                float* to) {
  std::fill_n(to, head_dim, 0.0F);
  for (int64_t r = row; r < row + n; ++r) {
    const void* key = element_at(type, keys.k, kv_head * keys.head_stride + r * keys.slot_stride);
    if (type == DType::kI8) {
      const float scale = keys.k_scales[kv_head * keys.scale_head_stride + r];
      for (int64_t d = 0; d < head_dim; ++d) to[d] += scale * load_element(type, key, d);
    } else {
      add_row_to_f32(type, key, head_dim, to);
    }
  }
  for (int64_t d = 0; d < head_dim; ++d) to[d] /= static_cast<float>(n);
}

void choose_blocks(const Context& ctx, const BlockChoice& c, int32_t* chosen) {
  if (c.n_chosen == 0 || c.n_rows == 0) return;
  if (ctx.attention == AttentionImpl::kReference) return choose_blocks_reference(ctx, c, chosen);
  const Arena::Scope scope(ctx.arena);
  const int64_t group = c.q.layout.n / c.n_kv_heads;
  const int64_t tile_rows = std::max<int64_t>(1, kAttentionTileLanes / group);
  const int64_t n_tiles = (c.n_rows + tile_rows - 1) / tile_rows;
  const int64_t n_blocks = block_of(c.starts, c.first_position + c.n_rows - 1);
  const int64_t per_worker = choose_blocks_scratch(c.q.layout.dim, n_blocks, c.n_chosen);
  float* scratch = ctx.arena.allocate<float>(per_worker * ctx.pool.size());
  const int64_t work = c.n_rows * c.q.layout.n * n_blocks * c.q.layout.dim / 2;
  parallel_for(ctx, n_tiles * c.n_kv_heads, work, [&](int64_t task, int worker) {
    const int64_t row =
        (n_tiles - 1 - task / c.n_kv_heads) * tile_rows;  // the last rows have the most blocks
    choose_blocks_tile(c, row, std::min(tile_rows, c.n_rows - row), task % c.n_kv_heads,
                       scratch + worker * per_worker, chosen);
  });
}

}  // namespace sepllm
