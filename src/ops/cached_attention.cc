#include "ops/cached_attention.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <span>

#include "base/check.h"
#include "kernels/attention/attention.h"
#include "kernels/rowwise/elementwise.h"
#include "kernels/rowwise/rope.h"

namespace sepllm::ops {
namespace {

// Where the rows of a chunk go in one layer: for each token a pointer, and one stride between kv heads.
struct ChunkPlaces {
  void** rows;
  float** scales;  // null unless int8
};

// Stores the keys and values of one sequence's chunk in its cache.
void store_chunk(const Context& ctx, const CachedAttentionOperands& o, const CachedRows& s) {
  KvCache& cache = *s.cache;
  const int64_t n = s.n_rows();
  const DType type = cache.layout().type;
  ChunkPlaces keys{ctx.arena.allocate<void*>(n), nullptr};
  ChunkPlaces values{ctx.arena.allocate<void*>(n), nullptr};
  auto* strides = ctx.arena.allocate<int64_t>(n);
  auto* scale_strides = strides;
  cache.chunk_rows(o.layer, keys.rows, values.rows, strides);
  if (type == DType::kI8) {
    keys.scales = ctx.arena.allocate<float*>(n);
    values.scales = ctx.arena.allocate<float*>(n);
    scale_strides = ctx.arena.allocate<int64_t>(n);
    cache.chunk_scales(o.layer, keys.scales, values.scales, scale_strides);
  }
  for (int64_t begin = 0; begin < n;) {  // one call for each run of rows with the same stride
    int64_t end = begin + 1;
    while (end < n && strides[end] == strides[begin]) ++end;
    const auto store = [&](const Heads& x, const ChunkPlaces& to) {
      store_rows(ctx, x.rows(s.first_row + begin, s.batch), end - begin,
                 {.type = type,
                  .rows = to.rows + begin,
                  .head_stride = strides[begin],
                  .scales = to.scales != nullptr ? to.scales + begin : nullptr,
                  .scale_head_stride = scale_strides[begin]});
    };
    store(o.k, keys);
    store(o.v, values);
    begin = end;
  }
  cache.rows_written(o.layer);
}

// What the queries of one sequence attend to: the spans of its cache. They are copied, because the cache
// overwrites them for the next layer.
AttentionSequence keys_of(const Context& ctx, int64_t layer, const CachedRows& s) {
  KvCache& cache = *s.cache;
  const std::span<const KeySpan> spans = cache.spans(layer);
  auto* copy = ctx.arena.allocate<KeySpan>(std::ssize(spans));
  std::copy(spans.begin(), spans.end(), copy);
  AttentionSequence out;
  out.batch = s.batch;
  out.first_row = s.first_row;
  out.n_rows = s.n_rows();
  out.first_position = cache.length();
  out.kv_type = cache.layout().type;
  out.spans = {copy, spans.size()};
  out.encoded = cache.encoded(layer).data();
  if (!cache.second_encoded(layer).empty()) out.second_encoded = cache.second_encoded(layer).data();
  return out;
}

bool same(SlotRef a, SlotRef b) { return a.band == b.band && a.index == b.index; }

// By how much each move turns keys, for each layer's rope. Layers with the same frequencies share tables.
class MoveAngles {
 public:
  MoveAngles(const Context& ctx, std::span<const RopeSpec> ropes, std::span<const Move> moves)
      : ropes_(ropes), tables_(ctx.arena.allocate<RopeTables>(std::ssize(ropes))) {
    const int64_t n = std::ssize(moves);
    auto* by = ctx.arena.allocate<int64_t>(n);
    std::transform(moves.begin(), moves.end(), by, [](const Move& move) { return move.rotate_by; });
    for (size_t l = 0; l < ropes.size(); ++l) {
      size_t same = 0;
      while (ropes[same].inv_freq.data() != ropes[l].inv_freq.data()) ++same;
      // (Keys in a cache have been multiplied by the factor already.)
      tables_[l] = same < l ? tables_[same]
                   : ropes[l].rotates()
                       ? rope_tables(ctx, {ropes[l].inv_freq, ropes[l].pairing}, {by, moves.size()})
                       : RopeTables();
    }
  }
  const RopeSpec& rope(int64_t layer) const { return ropes_[index(layer)]; }
  const RopeTables& tables(int64_t layer) const { return tables_[index(layer)]; }
  bool any() const {
    return std::any_of(ropes_.begin(), ropes_.end(), [](const RopeSpec& r) { return r.rotates(); });
  }

 private:
  size_t index(int64_t layer) const { return ropes_.size() == 1 ? 0 : static_cast<size_t>(layer); }

  std::span<const RopeSpec> ropes_;
  RopeTables* tables_;
};

}  // namespace

void begin_chunks(std::span<const CachedRows> rows) {
  for (const CachedRows& s : rows) s.cache->begin_chunk(s.tokens);
}

void cached_attend(const Context& ctx, const CachedAttentionOperands& o, std::span<const CachedRows> rows) {
  SEPLLM_CHECK(ctx.tape == nullptr);
  if (rows.empty()) return;
  const Arena::Scope scope(ctx.arena);
  auto* sequences = ctx.arena.allocate<AttentionSequence>(std::ssize(rows));
  for (size_t i = 0; i < rows.size(); ++i) {
    const KvLayout& layout = rows[i].cache->layout();
    SEPLLM_CHECK(layout.n_kv_heads == o.k.layout.n && layout.head_dim == o.k.layout.dim);
    store_chunk(ctx, o, rows[i]);
    sequences[i] = keys_of(ctx, o.layer, rows[i]);
  }
  attention(ctx, {.n_kv_heads = o.k.layout.n,
                  .scale = o.scale,
                  .q = o.q,
                  .second_q = o.second_q,
                  .out = o.out,
                  .alibi_slopes = o.alibi_slopes,
                  .sequences = {sequences, rows.size()}});
}

void end_chunks(const Context& ctx, std::span<const RopeSpec> ropes, std::span<const CachedRows> rows) {
  for (const CachedRows& s : rows) carry_out_moves(ctx, ropes, s.cache->end_chunk(), s.cache);
}

void carry_out_moves(const Context& ctx, std::span<const RopeSpec> ropes, std::span<const Move> moves,
                     KvCache* cache) {
  if (moves.empty()) return;
  const Arena::Scope scope(ctx.arena);
  const KvLayout& layout = cache->layout();
  const MoveAngles angles(ctx, ropes, moves);
  float* scratch = nullptr;  // [threads, head_dim]
  if (angles.any() && layout.type == DType::kI8)
    scratch = ctx.arena.allocate<float>(ctx.pool.size() * layout.head_dim);
  ctx.pool.parallel_for(layout.n_layers * layout.n_kv_heads, [&](int64_t task, int thread) {
    const int64_t layer = task / layout.n_kv_heads;
    const int64_t head = task % layout.n_kv_heads;
    if (!cache->compresses(layer)) return;
    const RopeSpec& rope = angles.rope(layer);
    const RopeTables& tables = angles.tables(layer);
    for (size_t k = 0; k < moves.size(); ++k) {
      const Move& move = moves[k];
      if (!same(move.from, move.to)) cache->copy_row(layer, head, move.from, move.to);
      if (!rope.rotates() || move.rotate_by == 0) continue;
      void* key = cache->key_row(layer, head, move.to);
      const RopeTables by = tables.from(static_cast<int64_t>(k));
      if (layout.type == DType::kI8) {
        rope_rotate_quantized(static_cast<int8_t*>(key), cache->key_scale(layer, head, move.to),
                              layout.head_dim, rope.pairing, by, scratch + thread * layout.head_dim);
      } else {
        rope_rotate_stored(layout.type, key, rope.pairing, by);
      }
    }
  });
}

}  // namespace sepllm::ops
