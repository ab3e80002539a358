// The backward pass of attention for a tile of queries: weights are recomputed from the scores and the kept
// log-sum-exp, block by block of keys.
//   p = exp(s - lse), dp = d_out . v, ds = p (dp - sum(out d_out))
//   d_q = scale sum_keys ds k,  d_k += scale sum_queries ds q,  d_v += sum_queries p d_out
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/attention/attention_backward_simd.cc"
#include <hwy/cache_control.h>
#include <hwy/foreach_target.h>  // must come first

#include <algorithm>
#include <cstdint>
#include <numbers>

#include "kernels/attention/attention_backward_task.h"
#include "kernels/attention/attention_block-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sepllm {
namespace HWY_NAMESPACE {
namespace {

// The maximum number of groups in a tile, with the narrowest vectors.
constexpr int64_t kMostGroups = kAttentionTileLanes / kGroupLanes + 1;

struct BackwardState {
  QueryTile tile;
  KeyBlock blocks[2];
  TilePrefetcher ahead;
  // By group, [head_dim][kGroupLanes]: queries times scale and log2 e, and d_out.
  float* query_columns;
  float* d_out_columns;
  // [lanes][stride], zero beyond head_dim and n_lanes: queries times scale, and d_out.
  float* query_rows;
  float* d_out_rows;
  float* d_query;      // [lanes][stride]
  float* log_sum_exp;  // [lanes] times log2 e
  float* delta;        // [lanes] sum of out d_out
  float* ones;         // [kGroupLanes]
  // By group, [block_rows][kGroupLanes]: scores, then weights; and their gradients.
  float* weights;
  float* d_scores;

  float* weights_of(int64_t group, int64_t row) const {
    return weights + (group * tile.block_rows + row) * kGroupLanes;
  }
  float* d_scores_of(int64_t group, int64_t row) const {
    return d_scores + (group * tile.block_rows + row) * kGroupLanes;
  }
};

// Coverage of every group and segment of a block.
struct BlockCoverage {
  Coverage of[kMostGroups][kAttentionBlockSegments];
};

HWY_INLINE float dot(const float* a, const float* b, int64_t n) {
  VF sum = hn::Zero(DF());
  int64_t d = 0;
  for (; d + kLanes <= n; d += kLanes) sum = hn::MulAdd(load(a + d), load(b + d), sum);
  if (d < n) sum = hn::MulAdd(load_n(a + d, n - d), load_n(b + d, n - d), sum);
  return reduce_sum(sum);
}

// to[lane] = factor * row_of(lane), padded with zeros.
template <typename RowOf>
void pack_rows(const QueryTile& tile, const RowOf& row_of, float factor, float* to) {
  const int64_t padded = (tile.head_dim + kLanes - 1) / kLanes * kLanes;
  for (int64_t l = 0; l < tile.lanes(); ++l) {
    float* row = to + l * tile.stride;
    if (l < tile.n_lanes) scale_row(row_of(l), factor, tile.head_dim, false, row);
    for (int64_t d = l < tile.n_lanes ? tile.head_dim : 0; d < padded; ++d) row[d] = 0.0F;
  }
}

void layout(const TileShape& shape, Carver& carver, BackwardState& s) {
  s.tile = layout_tile(shape, carver);
  layout_blocks(s.tile, carver, s.blocks);
  const int64_t lanes = s.tile.lanes();
  const int64_t stride = s.tile.stride;
  s.query_columns = carver.floats(lanes * s.tile.head_dim);
  s.d_out_columns = carver.floats(lanes * s.tile.head_dim);
  s.query_rows = carver.floats(lanes * stride);
  s.d_out_rows = carver.floats(lanes * stride);
  s.d_query = carver.floats(lanes * stride);
  s.log_sum_exp = carver.floats(lanes);
  s.delta = carver.floats(lanes);
  s.ones = carver.floats(kGroupLanes);
  s.weights = carver.floats(s.tile.n_groups * s.tile.block_rows * kGroupLanes);
  s.d_scores = carver.floats(s.tile.n_groups * s.tile.block_rows * kGroupLanes);
}

void start(const AttentionBackwardTask& b, BackwardState& s) {
  const AttentionTask& t = b.tile;
  Carver carver(t.scratch);
  layout(shape_of(t, kAttentionKeyTile), carver, s);
  start_tile(t, s.tile);
  const int64_t lanes = s.tile.lanes(), stride = s.tile.stride;
  const auto query = [&](int64_t l) { return t.query(false, l / t.n_heads, l % t.n_heads); };
  const auto d_out = [&](int64_t l) { return b.d_out(l / t.n_heads, l % t.n_heads); };
  pack_rows(s.tile, query, t.args->scale, s.query_rows);
  pack_rows(s.tile, d_out, 1.0F, s.d_out_rows);
  // Rows that were just packed are in cache, and are zero in lanes without a query, so those lanes add
  // nothing.
  pack_columns(
      s.tile, [&](int64_t l) { return s.query_rows + l * stride; }, std::numbers::log2e_v<float>,
      s.query_columns);
  pack_columns(
      s.tile, [&](int64_t l) { return s.d_out_rows + l * stride; }, 1.0F, s.d_out_columns);
  std::fill_n(s.d_query, lanes * stride, 0.0F);
  std::fill_n(s.ones, kGroupLanes, 1.0F);
  for (int64_t l = 0; l < lanes; ++l) {
    const int64_t lane = std::min(l, s.tile.n_lanes - 1);
    const int64_t r = lane / t.n_heads, h = lane % t.n_heads;
    s.log_sum_exp[l] = b.log_sum_exp(r, h) * std::numbers::log2e_v<float>;
    s.delta[l] = l < s.tile.n_lanes ? dot(b.out(r, h), s.d_out_rows + l * stride, s.tile.head_dim) : 0.0F;
  }
}

// For one vector of lanes and rows [begin, end): turns scores into weights, and d_weights into d_scores.
HWY_INLINE void gradients_of_scores(const BackwardState& s, int64_t lane, int64_t begin, int64_t end,
                                    float* weights, float* d_scores) {
  const DF d;
  const VF shift = hn::Load(d, s.log_sum_exp + lane);
  const VF delta = hn::Load(d, s.delta + lane);
  const auto one = [&](int64_t j) HWY_ATTR {
    float* w = weights + j * kGroupLanes;
    float* g = d_scores + j * kGroupLanes;
    const VF p = exp2_tile(hn::Sub(hn::Load(d, w), shift));
    hn::Store(p, d, w);
    hn::Store(hn::Mul(p, hn::Sub(hn::Load(d, g), delta)), d, g);
  };
  int64_t j = begin;
  for (; j + 4 <= end; j += 4) one(j), one(j + 1), one(j + 2), one(j + 3);
  for (; j < end; ++j) one(j);
}

// Sets zeros in the rows around those that a group sees, because sums over queries take up to kMostRows rows
// at a time.
HWY_INLINE void clear_margins(const Coverage& c, int64_t n, float* rows) {
  const int64_t first = std::max<int64_t>(0, c.first() - kMostRows + 1);
  const int64_t last = std::min(n, c.last() + kMostRows - 1);
  std::fill(rows + first * kGroupLanes, rows + c.first() * kGroupLanes, 0.0F);
  std::fill(rows + c.last() * kGroupLanes, rows + last * kGroupLanes, 0.0F);
}

void group_block(BackwardState& s, const KeyBlock& block, int64_t group, Coverage* covers) {
  const QueryTile& tile = s.tile;
  const int64_t lane = group * kGroupLanes;
  for (int64_t i = 0; i < block.n_segments; ++i) {
    const Segment& segment = block.segments[i];
    const Coverage c = covers[i] = coverage(tile, segment, group);
    float* weights = s.weights_of(group, segment.row);
    float* d_scores = s.d_scores_of(group, segment.row);
    if (c.first() >= c.last()) continue;
    segment_scores(tile, segment, c, group, s.query_columns + lane * tile.head_dim,
                   block.distance + segment.row, weights, s.ahead);
    for_each_run(c, [&](int64_t begin, int64_t end, VectorSet set) {
      tile_scores(s.d_out_columns + lane * tile.head_dim, segment.v + begin * tile.stride, tile.stride,
                  end - begin, tile.head_dim, set, d_scores + begin * kGroupLanes, s.ahead);
    });
    for (int v = 0; v < 2; ++v) {
      gradients_of_scores(s, lane + v * kLanes, c.begin[v], c.end[v], weights + v * kLanes,
                          d_scores + v * kLanes);
    }
    for (float* rows : {weights, d_scores}) {
      clear_unseen(c, rows);
      clear_margins(c, segment.n, rows);
    }
  }
  add_rows_of_keys(tile, block, group, &Segment::k, s.d_scores_of(group, 0), s.ones, s.d_query, s.ahead);
}

// For rows [begin, begin + n) of a segment, adds every group's part to the gradients of keys and values.
void add_rows(const AttentionBackwardTask& b, BackwardState& s, int64_t segment_index,
              const BlockCoverage& covers, const KeyBlock& block, int64_t begin, int64_t n) {
  const Segment& segment = block.segments[segment_index];
  const QueryTile& tile = s.tile;
  LaneRun of_weights[kMostGroups], of_scores[kMostGroups], moved[kMostGroups];
  int64_t n_runs = 0;
  for (int64_t g = 0; g < tile.n_groups; ++g) {
    const Coverage& c = covers.of[g][segment_index];
    if (begin >= c.last() || begin + n <= c.first()) continue;
    // If only one vector of the group sees the rows, the other's lanes are left out.
    const bool first = begin < c.end[0] && begin + n > c.begin[0] && c.begin[0] < c.end[0];
    const bool second = begin < c.end[1] && begin + n > c.begin[1] && c.begin[1] < c.end[1];
    if (!first && !second) continue;
    const int64_t lane = first ? 0 : kLanes;
    const int64_t lanes = first && second ? kGroupLanes : kLanes;
    const int64_t row = (g * kGroupLanes + lane) * tile.stride;
    of_weights[n_runs] = {s.weights_of(g, segment.row + begin) + lane, s.d_out_rows + row, lanes};
    of_scores[n_runs++] = {s.d_scores_of(g, segment.row + begin) + lane, s.query_rows + row, lanes};
  }
  const int64_t at = (segment.span->gradient_row + segment.key + begin) * tile.stride;
  tile_lane_sums(of_weights, n_runs, tile.stride, tile.head_dim, n, moved, b.value_sums + at, s.ahead);
  tile_lane_sums(of_scores, n_runs, tile.stride, tile.head_dim, n, moved, b.key_sums + at, s.ahead);
}

void add_key_gradients(const AttentionBackwardTask& b, BackwardState& s, const KeyBlock& block,
                       const BlockCoverage& covers) {
  for (int64_t i = 0; i < block.n_segments; ++i) {
    const Segment& segment = block.segments[i];
    int64_t first = segment.n, last = 0;
    for (int64_t g = 0; g < s.tile.n_groups; ++g) {
      const Coverage& c = covers.of[g][i];
      if (c.first() >= c.last()) continue;
      first = std::min(first, c.first());
      last = std::max(last, c.last());
    }
    if (first >= last) continue;
    for_even_parts(last - first, kMostRows,
                   [&](int64_t begin, int64_t n) { add_rows(b, s, i, covers, block, first + begin, n); });
  }
}

void prefetch_next(const AttentionBackwardTask& before, const AttentionBackwardTask& b, RowPrefetcher& to) {
  const AttentionTask& t = b.tile;
  prefetch_tile<float>(before.tile, t, to);
  prefetch_heads(b.gradients->d_out, t, to);
  prefetch_heads(t.args->out, t, to);
}

// to[d] += factor * from[d]
HWY_INLINE void add_scaled_row(const float* from, float factor, int64_t n, float* to) {
  const VF f = hn::Set(DF(), factor);
  int64_t d = 0;
  for (; d + kLanes <= n; d += kLanes) store(hn::MulAdd(f, load(from + d), load(to + d)), to + d);
  if (d < n) store_n(hn::MulAdd(f, load_n(from + d, n - d), load_n(to + d, n - d)), to + d, n - d);
}

void finish(const AttentionBackwardTask& b, const BackwardState& s) {
  const AttentionTask& t = b.tile;
  for (int64_t l = 0; l < s.tile.n_lanes; ++l) {
    if (b.adds_to_d_q) {
      add_scaled_row(s.d_query + l * s.tile.stride, t.args->scale, s.tile.head_dim,
                     b.d_q(l / t.n_heads, l % t.n_heads));
      continue;
    }
    scale_row(s.d_query + l * s.tile.stride, t.args->scale, s.tile.head_dim, t.stream_output,
              b.d_q(l / t.n_heads, l % t.n_heads));
  }
  if (t.stream_output) hwy::FlushStream();
}

int64_t AttentionBackwardScratch(int64_t head_dim, int64_t lanes) {
  Carver carver;
  BackwardState s{};
  layout({lanes, head_dim, kAttentionKeyTile, /*alibi=*/true, /*second_query=*/false}, carver, s);
  return carver.used();
}

void AttentionBackward(const AttentionBackwardTask& b) {
  BackwardState s{};
  s.ahead.bytes_at_a_time = 512;  // there is more to prefetch than in the forward pass, and more time for it
  BlockCoverage covers;
  start(b, s);
  if (b.next != nullptr) prefetch_next(b, *b.next, s.ahead.next_tile);
  for_each_block<float>(s.tile, s.blocks, s.ahead, [&](const KeyBlock& block) {
    for (int64_t g = 0; g < s.tile.n_groups; ++g) group_block(s, block, g, covers.of[g]);
    add_key_gradients(b, s, block, covers);
  });
  finish(b, s);
}

void SumRows(const float* const* rows, int64_t n_rows, int64_t n, bool stream, float* to) {
  const DF d;
  const bool aligned = reinterpret_cast<uintptr_t>(to) % (kLanes * sizeof(float)) == 0;
  for (int64_t i = 0; i < n; i += kLanes) {
    VF sum = hn::Load(d, rows[0] + i);
    for (int64_t r = 1; r < n_rows; ++r) sum = hn::Add(sum, hn::Load(d, rows[r] + i));
    if (i + kLanes > n) {
      store_n(sum, to + i, n - i);
    } else if (stream && aligned) {
      hn::Stream(sum, d, to + i);
    } else {
      hn::StoreU(sum, d, to + i);
    }
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace sepllm
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sepllm {
namespace {
HWY_EXPORT(AttentionBackward);
HWY_EXPORT(AttentionBackwardScratch);
HWY_EXPORT(SumRows);
}  // namespace

void attention_backward(const AttentionBackwardTask& t) { HWY_DYNAMIC_DISPATCH(AttentionBackward)(t); }

void attention_sum_rows(const float* const* rows, int64_t n_rows, int64_t n, bool stream, float* to) {
  HWY_DYNAMIC_DISPATCH(SumRows)(rows, n_rows, n, stream, to);
}

void attention_end_stream() { hwy::FlushStream(); }

int64_t attention_backward_scratch(int64_t head_dim, int64_t lanes) {
  return HWY_DYNAMIC_DISPATCH(AttentionBackwardScratch)(head_dim, lanes);
}

}  // namespace sepllm
#endif  // HWY_ONCE
