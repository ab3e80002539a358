// How a tile of queries meets blocks of keys: packing, which lane sees which key, masks. Shared by attention
// forward and backward. Compiled once per instruction set: include after foreach_target.h.
#if defined(SEPLLM_KERNELS_ATTENTION_BLOCK_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SEPLLM_KERNELS_ATTENTION_BLOCK_INL_H_
#undef SEPLLM_KERNELS_ATTENTION_BLOCK_INL_H_
#else
#define SEPLLM_KERNELS_ATTENTION_BLOCK_INL_H_
#endif

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <span>
#include <type_traits>

#include "kernels/attention/attention_task.h"
#include "kernels/attention/attention_tile-inl.h"
#include "kernels/formats/element.h"
#include "kernels/prefetch.h"
#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sepllm {
namespace HWY_NAMESPACE {

// Keys [key, key + n) of one span: rows [row, row + n) of the block.
struct Segment {
  const KeySpan* span;
  int64_t key, row, n;
  const float* k;  // rows of tile_stride(head_dim) elements
  const float* v;
  int32_t* lo;  // [lanes] the rows of the segment that each lane sees: [lo, hi)
  int32_t* hi;
};

// Up to block_rows keys of the tile, from one or several spans.
struct KeyBlock {
  Segment segments[kAttentionBlockSegments];
  int64_t n_segments = 0;
  int64_t n_rows = 0;
  float* k;  // [block_rows][tile stride], for rows that must be copied or converted
  float* v;
  float* distance;  // [block_rows] ALiBi: place of the key minus place of the first query
};

// The queries of a task. Arrays "by group" are [n_groups][...][kGroupLanes].
struct QueryTile {
  const AttentionTask* task;  // set by start_tile
  int64_t n_lanes, n_groups, head_dim;
  int64_t stride;      // elements between rows of keys, values, queries and sums
  int64_t block_rows;  // maximum number of keys in a block
  bool alibi;
  float* slope;  // [lanes]
  // [lanes] ALiBi: place of the query minus place of the first one; [1]: by the second encoding
  float* distance[2];
  int64_t lanes() const { return n_groups * kGroupLanes; }
};

// The rows [begin, end) of a segment that a group works on, for each of its vectors.
struct Coverage {
  int64_t begin[2], end[2];
  int64_t first() const {
    if (begin[0] >= end[0]) return begin[1];
    return begin[1] >= end[1] ? begin[0] : std::min(begin[0], begin[1]);
  }
  int64_t last() const { return std::max(end[0], end[1]); }
};

// The numbers that decide how large a task's arrays are.
struct TileShape {
  int64_t n_lanes, head_dim, block_rows;
  bool alibi, second_query;
};

HWY_INLINE TileShape shape_of(const AttentionTask& t, int64_t block_rows) {
  return {t.lanes(), t.args->head_dim(), block_rows, t.args->alibi_slopes != nullptr, t.needs_second_query()};
}

HWY_INLINE QueryTile layout_tile(const TileShape& shape, Carver& carver) {
  QueryTile tile{};
  tile.block_rows = shape.block_rows;
  tile.n_lanes = shape.n_lanes;
  tile.n_groups = (tile.n_lanes + kGroupLanes - 1) / kGroupLanes;
  tile.head_dim = shape.head_dim;
  tile.stride = attention_tile_stride(tile.head_dim);
  tile.alibi = shape.alibi;
  if (!tile.alibi) return tile;
  tile.slope = carver.floats(tile.lanes());
  for (float*& d : tile.distance) d = carver.floats(tile.lanes());
  return tile;
}

HWY_INLINE void start_tile(const AttentionTask& t, QueryTile& tile) {
  tile.task = &t;
  if (!tile.alibi) return;
  for (int64_t l = 0; l < tile.lanes(); ++l) {
    const int64_t lane = std::min(l, tile.n_lanes - 1);
    const int64_t row = lane / t.n_heads;
    tile.slope[l] = t.slope(row, lane % t.n_heads);
    for (int second = 0; second < 2; ++second) {
      tile.distance[second][l] = static_cast<float>(t.place(second != 0, row) - t.place(second != 0, 0));
    }
  }
}

// Transposes four rows into four columns of kGroupLanes elements, multiplied by factor.
HWY_INLINE void pack_four(const float* const (&rows)[4], float factor, int64_t n, float* to) {
  int64_t i = 0;
#if HWY_TARGET != HWY_SCALAR
  const hn::FixedTag<float, 4> d;
  const auto f = hn::Set(d, factor);
  for (; i + 4 <= n; i += 4) {
    const auto r0 = hn::Mul(f, hn::LoadU(d, rows[0] + i)), r1 = hn::Mul(f, hn::LoadU(d, rows[1] + i));
    const auto r2 = hn::Mul(f, hn::LoadU(d, rows[2] + i)), r3 = hn::Mul(f, hn::LoadU(d, rows[3] + i));
    const auto low01 = hn::InterleaveLower(d, r0, r1), low23 = hn::InterleaveLower(d, r2, r3);
    const auto up01 = hn::InterleaveUpper(d, r0, r1), up23 = hn::InterleaveUpper(d, r2, r3);
    float* at = to + i * kGroupLanes;
    hn::StoreU(hn::ConcatLowerLower(d, low23, low01), d, at);
    hn::StoreU(hn::ConcatUpperUpper(d, low23, low01), d, at + kGroupLanes);
    hn::StoreU(hn::ConcatLowerLower(d, up23, up01), d, at + 2 * kGroupLanes);
    hn::StoreU(hn::ConcatUpperUpper(d, up23, up01), d, at + 3 * kGroupLanes);
  }
#endif
  for (; i < n; ++i) {
    for (int64_t l = 0; l < std::min<int64_t>(4, kGroupLanes); ++l)
      to[i * kGroupLanes + l] = rows[l][i] * factor;
  }
}

// to[d][lane] = factor * row_of(lane)[d]; lanes beyond n_lanes repeat the last. `to`: by group [head_dim].
template <typename RowOf>
void pack_columns(const QueryTile& tile, const RowOf& row_of, float factor, float* to) {
  for (int64_t l = 0; l < tile.lanes(); l += std::min<int64_t>(4, kGroupLanes)) {
    const float* rows[4];
    for (int64_t i = 0; i < 4; ++i) rows[i] = row_of(std::min(l + i, tile.n_lanes - 1));
    pack_four(rows, factor, tile.head_dim,
              to + l / kGroupLanes * kGroupLanes * tile.head_dim + l % kGroupLanes);
  }
}

// to[d] = factor * from[d]. stream: written past the caches, for results that will have left them when they
// are read (end with hwy::FlushStream).
HWY_INLINE void scale_row(const float* from, float factor, int64_t n, bool stream, float* to) {
  const VF f = hn::Set(DF(), factor);
  const bool aligned = reinterpret_cast<uintptr_t>(to) % (kLanes * sizeof(float)) == 0;
  int64_t d = 0;
  if (stream && aligned) {
    for (; d + kLanes <= n; d += kLanes) hn::Stream(hn::Mul(f, load(from + d)), DF(), to + d);
  }
  for (; d + kLanes <= n; d += kLanes) store(hn::Mul(f, load(from + d)), to + d);
  if (d < n) store_n(hn::Mul(f, load_n(from + d, n - d)), to + d, n - d);
}

// scales: null, or one for each row.
template <typename T>
HWY_INLINE void copy_rows(const T* from, int64_t from_stride, int64_t n, const float* scales,
                          int64_t head_dim, int64_t stride, float* to) {
  for (int64_t j = 0; j < n; ++j) {
    const VF scale = hn::Set(DF(), scales != nullptr ? scales[j] : 1.0F);
    const T* row = from + j * from_stride;
    float* out = to + j * stride;
    int64_t d = 0;
    for (; d + kLanes <= head_dim; d += kLanes) store(hn::Mul(scale, load(row + d)), out + d);
    if (d < head_dim) store_n(hn::Mul(scale, load_n(row + d, head_dim - d)), out + d, head_dim - d);
  }
}

// Rows [key, key + n) of a span's keys or values as floats with the tile's stride: in place if they have this
// form, else copied to `scratch`.
template <typename T>
HWY_INLINE const float* tile_rows(const QueryTile& tile, const KeySpan& span, const void* from,
                                  const float* scales, int64_t key, int64_t n, float* scratch) {
  const int64_t head = tile.task->kv_head();
  const T* rows = static_cast<const T*>(from) + head * span.head_stride + key * span.slot_stride;
  if constexpr (std::is_same_v<T, float>) {
    // Rows can be used in place only if whole vectors can be read from every row.
    if (span.slot_stride == tile.stride && tile.head_dim % kLanes == 0) return rows;
  }
  if (scales != nullptr) scales += head * span.scale_head_stride + key;
  copy_rows(rows, span.slot_stride, n, scales, tile.head_dim, tile.stride, scratch);
  return scratch;
}

// Which rows of the segment each lane sees. Bounds grow with the row, so positions are walked only once.
HWY_INLINE void set_ranges(const QueryTile& tile, Segment& s) {
  const AttentionTask& t = *tile.task;
  KeySpan::Range range = s.span->range(t.position(0));
  int64_t lane = 0;
  for (int64_t r = 0; r < t.n_rows; ++r) {
    if (r > 0) range = s.span->next_range(range, t.position(r));
    const auto lo = static_cast<int32_t>(std::clamp<int64_t>(range.lo - s.key, 0, s.n));
    const auto hi = static_cast<int32_t>(std::clamp<int64_t>(range.hi - s.key, 0, s.n));
    for (int64_t h = 0; h < t.n_heads; ++h, ++lane) s.lo[lane] = lo, s.hi[lane] = hi;
  }
  for (; lane < tile.lanes(); ++lane) s.lo[lane] = s.lo[lane - 1], s.hi[lane] = s.hi[lane - 1];
}

// Walks through the keys of a task in blocks.
class BlockCursor {
 public:
  explicit BlockCursor(const QueryTile& tile) : tile_(tile) { find_range(); }

  // Decides which keys form the next block, without reading their rows; false at the end.
  bool next(KeyBlock& block) {
    block.n_segments = block.n_rows = 0;
    while (span_ < n_spans() && block.n_rows < tile_.block_rows &&
           block.n_segments < kAttentionBlockSegments) {
      const int64_t n = std::min(end_ - key_, tile_.block_rows - block.n_rows);
      Segment& s = block.segments[block.n_segments++];
      s.span = &span();
      s.key = key_;
      s.row = block.n_rows;
      s.n = n;
      block.n_rows += n;
      key_ += n;
      if (key_ == end_) ++span_, find_range();
    }
    return block.n_rows > 0;
  }

 private:
  const AttentionTask& task() const { return *tile_.task; }
  int64_t n_spans() const { return std::ssize(task().spans); }
  const KeySpan& span() const { return task().spans[span_]; }
  // Finds the first span from span_ on that has keys for the task.
  void find_range() {
    for (; span_ < n_spans(); ++span_) {
      const auto [lo, hi] = range_of_rows(span(), task().position(0), task().position(task().n_rows - 1));
      key_ = std::max(lo, lo + task().key_begin - before_);
      end_ = std::min(hi, lo + task().key_end - before_);
      before_ += std::max<int64_t>(0, hi - lo);
      if (key_ < end_) return;
    }
  }

  const QueryTile& tile_;
  int64_t span_ = 0;
  int64_t before_ = 0;  // number of keys in earlier spans
  int64_t key_ = 0, end_ = 0;
};

// Reads the rows of a block that next() has laid out, and computes what each lane sees of them.
template <typename T>
void load_block(const QueryTile& tile, KeyBlock& block) {
  for (int64_t i = 0; i < block.n_segments; ++i) {
    Segment& s = block.segments[i];
    const KeySpan& span = *s.span;
    s.k = tile_rows<T>(tile, span, span.k, span.k_scales, s.key, s.n, block.k + s.row * tile.stride);
    s.v = tile_rows<T>(tile, span, span.v, span.v_scales, s.key, s.n, block.v + s.row * tile.stride);
    set_ranges(tile, s);
    if (!tile.alibi) continue;
    const int64_t place = tile.task->place(span.second_query, 0);
    for (int64_t j = 0; j < s.n; ++j) {
      block.distance[s.row + j] = static_cast<float>(span.encoded_at(s.key + j) - place);
    }
  }
}

// Prefetches rows of keys and values [key, key + n) as they are stored.
template <typename T>
void prefetch_keys(const AttentionTask& t, const KeySpan& span, int64_t key, int64_t n, RowPrefetcher& to) {
  const int64_t offset = t.kv_head() * span.head_stride + key * span.slot_stride;
  const auto size = static_cast<int64_t>(sizeof(T));
  for (const void* rows : {span.k, span.v}) {
    to.add(static_cast<const T*>(rows) + offset, span.slot_stride * size, n, t.args->head_dim() * size);
  }
}

// Whether the tile before fetches everything that a tile sees of a span.
HWY_INLINE bool is_short(const AttentionTask& t, const KeySpan& span) {
  return range_of_rows(span, t.position(0), t.position(t.n_rows - 1)).size() <= 3 * t.n_rows;
}

// Prefetches the task's rows and heads of x, which has the layout of the queries or the output.
HWY_INLINE void prefetch_heads(const Heads& x, const AttentionTask& t, RowPrefetcher& to) {
  if (t.gathered != nullptr) return;  // its rows do not lie in a line
  const auto size = static_cast<int64_t>(sizeof(float));
  const HeadLayout& layout = x.layout;
  for (int64_t h = 0; h < t.n_heads;) {
    int64_t n = 1;  // heads next to each other count as one row of bytes
    while (h + n < t.n_heads && layout.at(t.head + h + n) == layout.at(t.head + h) + n * layout.dim) ++n;
    to.add(t.at(x, 0, h), x.row_stride * size, t.n_rows, n * layout.dim * size);
    h += n;
  }
}

// The span with the nearest keys.
HWY_INLINE const KeySpan& nearest_span(std::span<const KeySpan> spans) {
  size_t i = spans.size() - 1;
  while (i > 0 && spans[i].kind != KeySpan::Kind::kBand) --i;
  return spans[i];
}

// Prefetches the queries of the tile after `t`, and those of its nearest keys that `t` does not read itself.
// (For a long range, most keys were needed by earlier tiles.)
template <typename T>
void prefetch_tile(const AttentionTask& t, const AttentionTask& next, RowPrefetcher& to) {
  prefetch_heads(next.args->q, next, to);
  const KeySpan& last = nearest_span(next.spans);
  auto [lo, hi] = range_of_rows(last, next.position(0), next.position(next.n_rows - 1));
  lo = std::max(lo, hi - 3 * next.n_rows);
  if (next.spans.data() == t.spans.data() && next.kv_head() == t.kv_head()) {
    const auto own = range_of_rows(last, t.position(0), t.position(t.n_rows - 1));
    if (own.lo <= lo && lo < own.hi) lo = own.hi;
    if (own.lo < hi && hi <= own.hi) hi = own.lo;
  }
  prefetch_keys<T>(next, last, lo, hi - lo, to);
}

// Calls fn(block) for all keys of the task, in blocks, while the rows of the next block are prefetched.
template <typename T, typename Fn>
void for_each_block(const QueryTile& tile, KeyBlock (&blocks)[2], TilePrefetcher& ahead, const Fn& fn) {
  BlockCursor cursor(tile);
  bool more = cursor.next(blocks[0]);
  for (int i = 0; more; i = 1 - i) {
    load_block<T>(tile, blocks[i]);
    KeyBlock& next = blocks[1 - i];
    more = cursor.next(next);
    ahead.keys.clear();
    for (int64_t s = 0; more && s < next.n_segments; ++s) {
      // A compact span is dense and in cache since the tile before; a short range is in cache through
      // prefetch_tile.
      const KeySpan& span = *next.segments[s].span;
      if (span.kind == KeySpan::Kind::kCompact || is_short(*tile.task, span)) continue;
      prefetch_keys<T>(*tile.task, *next.segments[s].span, next.segments[s].key, next.segments[s].n,
                       ahead.keys);
    }
    fn(blocks[i]);
  }
}

// Two blocks that share their arrays: one is in use, and the other is only laid out.
HWY_INLINE void layout_blocks(const QueryTile& tile, Carver& carver, KeyBlock (&blocks)[2]) {
  blocks[0].k = blocks[1].k = carver.floats(tile.block_rows * tile.stride);
  blocks[0].v = blocks[1].v = carver.floats(tile.block_rows * tile.stride);
  blocks[0].distance = blocks[1].distance = carver.floats(tile.block_rows);
  for (int64_t i = 0; i < kAttentionBlockSegments; ++i) {
    blocks[0].segments[i].lo = blocks[1].segments[i].lo = carver.ints(tile.lanes());
    blocks[0].segments[i].hi = blocks[1].segments[i].hi = carver.ints(tile.lanes());
  }
}

// The rows of a segment that the group's lanes see, for each vector.
HWY_INLINE Coverage coverage(const QueryTile& tile, const Segment& s, int64_t group) {
  // If fewer rows than this are seen by only one vector, computing them for both and masking is cheaper.
  constexpr int64_t kFew = 6;
  const int64_t lane = group * kGroupLanes;
  Coverage c{{s.lo[lane], s.lo[lane + kLanes]}, {s.hi[lane + kLanes - 1], s.hi[lane + kGroupLanes - 1]}};
  if (lane + kLanes >= tile.n_lanes) c.end[1] = c.begin[1];  // no query in the second vector
  const bool first = c.begin[0] < c.end[0];
  const bool second = c.begin[1] < c.end[1];
  if (first && second) {
    if (c.begin[1] - c.begin[0] < kFew) c.begin[1] = c.begin[0];
    if (c.end[1] - c.end[0] < kFew) c.end[0] = c.end[1];
  }
  return c;
}

// Calls fn(begin, end, set) for at most three runs of rows.
template <typename Fn>
HWY_INLINE void for_each_run(const Coverage& c, const Fn& fn) {
  const auto run = [&](int64_t begin, int64_t end, VectorSet set) {
    if (begin < end) fn(begin, end, set);
  };
  const bool apart = c.begin[0] >= c.end[0] || c.begin[1] >= c.end[1] || c.end[0] <= c.begin[1];
  if (apart) {
    run(c.begin[0], c.end[0], kFirst);
    run(c.begin[1], c.end[1], kSecond);
  } else {
    run(c.begin[0], c.begin[1], kFirst);
    run(c.begin[1], c.end[0], kBoth);
    run(c.end[0], c.end[1], kSecond);
  }
}

// Masks rows [begin, end) of the segment in one vector of scores; `scores` points to the segment's row 0.
HWY_INLINE void mask_rows(const int32_t* lo, const int32_t* hi, int64_t begin, int64_t end, float* scores) {
  const auto first = hn::LoadU(DI(), lo);
  const auto last = hn::LoadU(DI(), hi);
  for (int64_t j = begin; j < end; ++j) {
    const auto row = hn::Set(DI(), static_cast<int32_t>(j));
    const auto outside = hn::Or(hn::Lt(row, first), hn::Not(hn::Lt(row, last)));
    float* at = scores + j * kGroupLanes;
    hn::Store(hn::IfThenElse(hn::RebindMask(DF(), outside), hn::Set(DF(), kMasked), hn::Load(DF(), at)), DF(),
              at);
  }
}

// Masks what some lanes of the group do not see, at the edges of the group's coverage.
HWY_INLINE void mask_edges(const Segment& s, const Coverage& c, int64_t group, float* scores) {
  for (int v = 0; v < 2; ++v) {
    const int64_t lane = group * kGroupLanes + v * kLanes;
    const int64_t inner_begin = std::clamp<int64_t>(s.lo[lane + kLanes - 1], c.begin[v], c.end[v]);
    const int64_t inner_end = std::clamp<int64_t>(s.hi[lane], inner_begin, c.end[v]);
    mask_rows(s.lo + lane, s.hi + lane, c.begin[v], inner_begin, scores + v * kLanes);
    mask_rows(s.lo + lane, s.hi + lane, inner_end, c.end[v], scores + v * kLanes);
  }
}

// Sets weights to zero where a vector does not see a row that the other one sees, and in all rows between the
// two: sums may then run over all rows from c.first() to c.last().
HWY_INLINE void clear_unseen(const Coverage& c, float* weights) {
  const auto clear = [&](int64_t begin, int64_t end, int v) {
    for (int64_t j = begin; j < end; ++j) {
      hn::Store(hn::Zero(DF()), DF(), weights + j * kGroupLanes + v * kLanes);
    }
  };
  for (int v = 0; v < 2; ++v) {
    if (c.begin[v] >= c.end[v]) {
      clear(c.first(), c.last(), v);
    } else {
      clear(c.first(), c.begin[v], v);
      clear(c.end[v], c.last(), v);
    }
  }
}

HWY_INLINE void add_alibi(const QueryTile& tile, const Segment& s, const Coverage& c, int64_t group,
                          const float* key_distance, float* scores) {
  for (int v = 0; v < 2; ++v) {
    const int64_t lane = group * kGroupLanes + v * kLanes;
    const VF slope = hn::Load(DF(), tile.slope + lane);
    const VF distance = hn::Load(DF(), tile.distance[s.span->second_query ? 1 : 0] + lane);
    for (int64_t j = c.begin[v]; j < c.end[v]; ++j) {
      const VF away = hn::Sub(hn::Set(DF(), key_distance[j]), distance);
      float* at = scores + j * kGroupLanes + v * kLanes;
      hn::Store(hn::MulAdd(slope, away, hn::Load(DF(), at)), DF(), at);
    }
  }
}

// Biased and masked scores (times log2 e) of a group against the rows of a segment that it sees. query:
// [head_dim]; scores: the segment's row 0, [n][kGroupLanes].
HWY_INLINE void segment_scores(const QueryTile& tile, const Segment& s, const Coverage& c, int64_t group,
                               const float* query, const float* key_distance, float* scores,
                               TilePrefetcher& ahead) {
  for_each_run(c, [&](int64_t begin, int64_t end, VectorSet set) {
    tile_scores(query, s.k + begin * tile.stride, tile.stride, end - begin, tile.head_dim, set,
                scores + begin * kGroupLanes, ahead);
  });
  if (tile.alibi) add_alibi(tile, s, c, group, key_distance, scores);
  mask_edges(s, c, group, scores);
}

// For each lane of the group: to[lane] = factor[lane] * to + sum over its rows of weights . rows, a few lanes
// at a time, each time over the rows that they see. rows: Segment::k or v; weights: the block's row 0,
// [block_rows][kGroupLanes]; factor: [kGroupLanes]; to: [lanes][stride] of the whole tile.
HWY_INLINE void add_rows_of_keys(const QueryTile& tile, const KeyBlock& block, int64_t group,
                                 const float* Segment::*rows, const float* weights, const float* factor,
                                 float* to, TilePrefetcher& ahead) {
  const int64_t first = group * kGroupLanes;
  for_even_parts(std::min(kGroupLanes, tile.n_lanes - first), kMostRows, [&](int64_t begin, int64_t size) {
    const int64_t lane = first + begin;
    KeyRun runs[kAttentionBlockSegments];
    int64_t n_runs = 0;
    for (int64_t i = 0; i < block.n_segments; ++i) {
      const Segment& s = block.segments[i];
      const int64_t lo = s.lo[lane];
      const int64_t hi = s.hi[lane + size - 1];
      if (lo >= hi) continue;
      runs[n_runs++] = {s.*rows + lo * tile.stride, weights + (s.row + lo) * kGroupLanes + begin, hi - lo};
    }
    tile_key_sums(std::span(runs, static_cast<size_t>(n_runs)), tile.stride, tile.head_dim, size,
                  factor + begin, tile.stride, to + lane * tile.stride, ahead);
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace sepllm
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
