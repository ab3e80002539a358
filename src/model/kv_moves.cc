#include "model/kv_moves.h"

#include "kernels/rowwise/rope.h"

namespace sepllm {
namespace {

bool same(SlotRef a, SlotRef b) { return a.band == b.band && a.index == b.index; }

}  // namespace

void carry_out_moves(const Context& ctx, const ModelConfig& config, KvCache& cache,
                     std::span<const Move> moves) {
  if (moves.empty()) return;
  const Arena::Scope scope(ctx.arena);
  const bool rotate = config.position == PositionType::kRope;
  const auto n_freq = static_cast<int64_t>(config.rope_inv_freq.size());
  const auto n = static_cast<int64_t>(moves.size());
  RopeTables tables;
  if (rotate) {
    auto* by = ctx.arena.allocate<int64_t>(n);
    for (int64_t k = 0; k < n; ++k) by[k] = moves[static_cast<size_t>(k)].rotate_by;
    auto* cos = ctx.arena.allocate<float>(n * n_freq);
    auto* sin = ctx.arena.allocate<float>(n * n_freq);
    rope_tables(ctx, config.rope_inv_freq, {by, static_cast<size_t>(n)}, cos, sin);
    tables = {n_freq, cos, sin};
  }
  const KvLayout& layout = cache.layout();
  float* scratch = nullptr;  // [threads, head_dim]
  if (rotate && layout.type == DType::kI8)
    scratch = ctx.arena.allocate<float>(ctx.pool.size() * layout.head_dim);
  ctx.pool.parallel_for(layout.n_layers * layout.n_kv_heads, [&](int64_t task, int thread) {
    const int64_t layer = task / layout.n_kv_heads;
    const int64_t head = task % layout.n_kv_heads;
    for (int64_t k = 0; k < n; ++k) {
      const Move& move = moves[static_cast<size_t>(k)];
      if (!same(move.from, move.to)) cache.copy_row(layer, head, move.from, move.to);
      if (!rotate || move.rotate_by == 0) continue;
      void* key = cache.key_row(layer, head, move.to);
      const RopeTables angles = tables.from(k);
      if (layout.type == DType::kI8) {
        rope_rotate_quantized(static_cast<int8_t*>(key), cache.key_scale(layer, head, move.to),
                              layout.head_dim, config.rope_pairing, angles,
                              scratch + thread * layout.head_dim);
      } else {
        rope_rotate_stored(layout.type, key, config.rope_pairing, angles);
      }
    }
  });
}

}  // namespace sepllm
