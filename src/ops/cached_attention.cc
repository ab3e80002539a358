#include "ops/cached_attention.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <span>

#include "attention/block_rule.h"
#include "base/check.h"
#include "kernels/attention/attention.h"
#include "kernels/attention/block_attention.h"
#include "kernels/attention/block_choice.h"
#include "kernels/parallel.h"
#include "kernels/rowwise/elementwise.h"
#include "kernels/rowwise/rope.h"
#include "ops/cached_nsa.h"

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

// Writes the means of the blocks that have become complete in one layer.
void write_means(const Context& ctx, int64_t layer, KvCache* cache) {
  const KvLayout& layout = cache->layout();
  const std::span<const int64_t> starts = cache->block_starts(layer);
  const int64_t first = cache->n_means(layer), n = cache->n_complete_blocks(layer) - first;
  if (n == 0) return;
  const KeySpan keys = cache->spans(layer)[0];
  KeySpan values = keys;
  values.k = keys.v;
  values.k_scales = keys.v_scales;
  const int64_t n_means = cache->blocks(layer).means_of_block();
  float* means = cache->block_means(layer);
  const int64_t n_rows = starts[static_cast<size_t>(first + n)] - starts[static_cast<size_t>(first)];
  const int64_t per_block = n_means * layout.n_kv_heads;
  parallel_for(ctx, n * per_block, n_rows * per_block * layout.head_dim, [&](int64_t task, int) {
    const auto b = static_cast<size_t>(first + task / per_block);
    const int64_t which = task % per_block / layout.n_kv_heads, head = task % layout.n_kv_heads;
    block_mean(which == 0 ? keys : values, layout.type, head, starts[b], starts[b + 1] - starts[b],
               layout.head_dim, means + (first * per_block + task) * layout.head_dim);
  });
  cache->means_written(layer);
}

// Counts the keys that the queries of one sequence see by their selection.
void count_chosen(int64_t layer, const AttentionSequence& s, const BlockSelection& selection, int64_t n_heads,
                  KvCache* cache) {
  const std::span<const int64_t> starts = selection.starts;
  for (int64_t r = 0; r < s.n_rows; ++r) {
    int64_t all = 0, most = 0;
    const int64_t position = s.first_position + r;
    const int64_t own = position - starts[static_cast<size_t>(block_of(starts, position))] + 1;
    for (int64_t h = 0; h < n_heads; ++h) {
      int64_t keys = own;
      for (const int32_t b : selection.of(r, h, n_heads, 1)) {
        if (b < 0) break;
        keys += starts[static_cast<size_t>(b) + 1] - starts[static_cast<size_t>(b)];
      }
      all += keys;
      most = std::max(most, keys);
    }
    cache->count_chosen(layer, r, (all + n_heads / 2) / n_heads, most);
  }
}

// What the queries of one sequence choose in a layer with blocks. Counts what they see.
BlockSelection choose(const Context& ctx, const CachedAttentionOperands& o, const CachedRows& rows,
                      const AttentionSequence& s) {
  KvCache& cache = *rows.cache;
  write_means(ctx, o.layer, &cache);
  const int64_t n_heads = o.q.layout.n;
  BlockSelection out{.starts = cache.block_starts(o.layer), .n_choosers = n_heads};
  // (The block that begins after the last token is empty.)
  if (out.starts.back() == s.first_position + s.n_rows) out.starts = out.starts.first(out.starts.size() - 1);
  out.n_chosen = std::min(cache.blocks(o.layer).count, std::ssize(out.starts)) - 1;
  auto* chosen = ctx.arena.allocate<int32_t>(s.n_rows * n_heads * out.n_chosen);
  choose_blocks(ctx,
                {.q = o.q,
                 .batch = s.batch,
                 .first_row = s.first_row,
                 .n_rows = s.n_rows,
                 .first_position = s.first_position,
                 .n_kv_heads = o.k.layout.n,
                 .starts = out.starts,
                 .means = cache.block_means(o.layer),
                 .n_chosen = out.n_chosen},
                chosen);
  out.chosen = chosen;
  count_chosen(o.layer, s, out, n_heads, &cache);
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
  auto* with_blocks = ctx.arena.allocate<AttentionSequence>(std::ssize(rows));
  auto* selections = ctx.arena.allocate<BlockSelection>(std::ssize(rows));
  auto* nsa = ctx.arena.allocate<CachedNsa>(std::ssize(rows));
  size_t n = 0, n_with_blocks = 0, n_nsa = 0;
  for (const CachedRows& s : rows) {
    const KvLayout& layout = s.cache->layout();
    SEPLLM_CHECK(layout.n_kv_heads == o.k.layout.n && layout.head_dim == o.k.layout.dim);
    store_chunk(ctx, o, s);
    const AttentionSequence keys = keys_of(ctx, o.layer, s);
    if (!s.cache->blocks(o.layer).used()) {
      sequences[n++] = keys;
      continue;
    }
    if (s.cache->blocks(o.layer).nsa()) {
      write_means(ctx, o.layer, s.cache);
      nsa[n_nsa++] = {s.cache, keys};
      continue;
    }
    selections[n_with_blocks] = choose(ctx, o, s, keys);
    with_blocks[n_with_blocks++] = keys;
  }
  AttentionArgs args{.n_kv_heads = o.k.layout.n,
                     .scale = o.scale,
                     .q = o.q,
                     .second_q = o.second_q,
                     .out = o.out,
                     .alibi_slopes = o.alibi_slopes,
                     .sequences = {sequences, n}};
  if (n > 0) attention(ctx, args);
  cached_nsa(ctx, o, {nsa, n_nsa});
  if (n_with_blocks == 0) return;
  args.second_q = {};
  args.sequences = {with_blocks, n_with_blocks};
  block_attention(ctx, args, {selections, n_with_blocks});
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
