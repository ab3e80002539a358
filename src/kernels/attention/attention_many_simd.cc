// Attention of a tile of query rows (times the heads that share a kv head), forward pass: online softmax over
// blocks of keys.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/attention/attention_many_simd.cc"
#include <hwy/cache_control.h>
#include <hwy/foreach_target.h>  // must come first

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>

#include "kernels/attention/attention_block-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sepllm {
namespace HWY_NAMESPACE {
namespace {

struct ManyState {
  QueryTile tile;
  KeyBlock blocks[2];
  TilePrefetcher ahead;
  float* query[2];  // [head_dim] scaled
  float* sums;      // [lanes][stride], not by group
  float* top;       // [1]
  float* total;     // [1]
  float* weights;   // [block_rows][kGroupLanes] for one group: scores, then weights
};

int64_t block_rows_of(int64_t lanes) {
  return lanes <= kAttentionNarrowTileLanes ? kAttentionNarrowKeyTile : kAttentionKeyTile;
}

void layout(const TileShape& shape, Carver& carver, ManyState& s) {
  s.tile = layout_tile(shape, carver);
  layout_blocks(s.tile, carver, s.blocks);
  const int64_t lanes = s.tile.lanes();
  s.query[0] = carver.floats(lanes * s.tile.head_dim);
  s.query[1] = shape.second_query ? carver.floats(lanes * s.tile.head_dim) : s.query[0];
  s.sums = carver.floats(lanes * s.tile.stride);
  s.top = carver.floats(lanes);
  s.total = carver.floats(lanes);
  s.weights = carver.floats(s.tile.block_rows * kGroupLanes);
}

void start(const AttentionTask& t, ManyState& s) {
  Carver carver(t.scratch);
  const TileShape shape = shape_of(t, block_rows_of(t.lanes()));
  layout(shape, carver, s);
  start_tile(t, s.tile);
  for (int second = 0; second < (shape.second_query ? 2 : 1); ++second) {
    pack_columns(
        s.tile, [&](int64_t l) { return t.query(second != 0, l / t.n_heads, l % t.n_heads); },
        t.score_scale(), s.query[second]);
  }
  const int64_t lanes = s.tile.lanes();
  std::fill_n(s.sums, lanes * s.tile.stride, 0.0F);
  std::fill_n(s.top, lanes, kLowest);
  std::fill_n(s.total, lanes, 0.0F);
  if (!t.continues) return;
  for (int64_t l = 0; l < s.tile.n_lanes; ++l) {
    const float* before = t.partial_at(l / t.n_heads, l % t.n_heads);
    scale_row(before, 1.0F, s.tile.head_dim, false, s.sums + l * s.tile.stride);
    s.top[l] = before[s.tile.head_dim];
    s.total[l] = before[s.tile.head_dim + 1];
  }
}

HWY_INLINE VF largest(const float* scores, int64_t begin, int64_t end, VF top) {
  const DF d;
  VF t0 = top, t1 = top, t2 = top, t3 = top;
  int64_t j = begin;
  for (; j + 4 <= end; j += 4) {
    const float* at = scores + j * kGroupLanes;
    t0 = hn::Max(t0, hn::Load(d, at));
    t1 = hn::Max(t1, hn::Load(d, at + kGroupLanes));
    t2 = hn::Max(t2, hn::Load(d, at + 2 * kGroupLanes));
    t3 = hn::Max(t3, hn::Load(d, at + 3 * kGroupLanes));
  }
  for (; j < end; ++j) t0 = hn::Max(t0, hn::Load(d, scores + j * kGroupLanes));
  return hn::Max(hn::Max(t0, t1), hn::Max(t2, t3));
}

// Turns scores into exp2(score - top) and returns their sum.
HWY_INLINE VF exponentials(float* scores, int64_t begin, int64_t end, VF top) {
  const DF d;
  VF sum0 = hn::Zero(d), sum1 = hn::Zero(d);
  int64_t j = begin;
  for (; j + 4 <= end; j += 4) {
    float* at = scores + j * kGroupLanes;
    const VF p0 = exp2_tile(hn::Sub(hn::Load(d, at), top));
    const VF p1 = exp2_tile(hn::Sub(hn::Load(d, at + kGroupLanes), top));
    const VF p2 = exp2_tile(hn::Sub(hn::Load(d, at + 2 * kGroupLanes), top));
    const VF p3 = exp2_tile(hn::Sub(hn::Load(d, at + 3 * kGroupLanes), top));
    hn::Store(p0, d, at);
    hn::Store(p1, d, at + kGroupLanes);
    hn::Store(p2, d, at + 2 * kGroupLanes);
    hn::Store(p3, d, at + 3 * kGroupLanes);
    sum0 = hn::Add(sum0, hn::Add(p0, p1));
    sum1 = hn::Add(sum1, hn::Add(p2, p3));
  }
  for (; j < end; ++j) {
    float* at = scores + j * kGroupLanes;
    const VF p = exp2_tile(hn::Sub(hn::Load(d, at), top));
    hn::Store(p, d, at);
    sum0 = hn::Add(sum0, p);
  }
  return hn::Add(sum0, sum1);
}

// Turns scores of one vector of a group into weights relative to the largest score so far. factor: for the
// earlier sums.
HWY_INLINE void softmax(const ManyState& s, const KeyBlock& block, const Coverage* covers, int64_t lane,
                        int v, float* factor) {
  const DF d;
  const VF old_top = hn::Load(d, s.top + lane);
  VF top = old_top;
  for (int64_t i = 0; i < block.n_segments; ++i) {
    const float* rows = s.weights + block.segments[i].row * kGroupLanes + v * kLanes;
    top = largest(rows, covers[i].begin[v], covers[i].end[v], top);
  }
  VF total = hn::Zero(d);
  for (int64_t i = 0; i < block.n_segments; ++i) {
    float* rows = s.weights + block.segments[i].row * kGroupLanes + v * kLanes;
    total = hn::Add(total, exponentials(rows, covers[i].begin[v], covers[i].end[v], top));
  }
  const VF f = exp2_tile(hn::Sub(old_top, top));
  hn::Store(top, d, s.top + lane);
  hn::Store(hn::MulAdd(hn::Load(d, s.total + lane), f, total), d, s.total + lane);
  hn::Store(f, d, factor + v * kLanes);
}

// Processes one group of queries and the part of a block that any of them sees.
void group_block(ManyState& s, const KeyBlock& block, int64_t group) {
  const QueryTile& tile = s.tile;
  const int64_t lane = group * kGroupLanes;
  Coverage covers[kAttentionBlockSegments];
  bool any = false;
  for (int64_t i = 0; i < block.n_segments; ++i) {
    const Segment& segment = block.segments[i];
    covers[i] = coverage(tile, segment, group);
    any = any || covers[i].first() < covers[i].last();
    segment_scores(tile, segment, covers[i], group,
                   s.query[segment.span->second_query ? 1 : 0] + lane * tile.head_dim,
                   block.distance + segment.row, s.weights + segment.row * kGroupLanes, s.ahead);
  }
  if (!any) return;
  HWY_ALIGN float factor[kGroupLanes];
  for (int v = 0; v < 2; ++v) softmax(s, block, covers, lane + v * kLanes, v, factor);
  for (int64_t i = 0; i < block.n_segments; ++i) {
    clear_unseen(covers[i], s.weights + block.segments[i].row * kGroupLanes);
  }
  add_rows_of_keys(tile, block, group, &Segment::v, s.weights, factor, s.sums, s.ahead);
}

void finish(const AttentionTask& t, const ManyState& s) {
  const int64_t n = s.tile.head_dim;
  for (int64_t l = 0; l < s.tile.n_lanes; ++l) {
    const int64_t r = l / t.n_heads, h = l % t.n_heads;
    const float* sums = s.sums + l * s.tile.stride;
    if (t.partial != nullptr) {
      float* to = t.partial_at(r, h);
      scale_row(sums, 1.0F, n, false, to);
      to[n] = s.top[l];
      to[n + 1] = s.total[l];
    } else {
      scale_row(sums, 1.0F / s.total[l], n, t.stream_output, t.output(r, h));
    }
    if (t.partial == nullptr && t.args->log_sum_exp.data != nullptr) {
      *t.log_sum_exp(r, h) = s.top[l] * std::numbers::ln2_v<float> + std::log(s.total[l]);
    }
  }
  if (t.stream_output) hwy::FlushStream();
}

template <typename T>
void many(const AttentionTask& t) {
  ManyState s{};
  start(t, s);
  if (t.next != nullptr) prefetch_tile<T>(t, *t.next, s.ahead.next_tile);
  for_each_block<T>(s.tile, s.blocks, s.ahead, [&](const KeyBlock& block) {
    for (int64_t g = 0; g < s.tile.n_groups; ++g) group_block(s, block, g);
  });
  finish(t, s);
}

// For at most this many lanes: with fewer lanes, blocks of keys are larger.
int64_t AttentionManyScratch(int64_t head_dim, int64_t lanes) {
  int64_t most = 0;
  for (const int64_t n : {lanes, std::min(lanes, kAttentionNarrowTileLanes)}) {
    Carver carver;
    ManyState s{};
    layout({n, head_dim, block_rows_of(n), /*alibi=*/true, /*second_query=*/true}, carver, s);
    most = std::max(most, carver.used());
  }
  return most;
}

void AttentionMany(const AttentionTask& t) {
  switch (t.sequence->kv_type) {
    case DType::kF32:
      return many<float>(t);
    case DType::kF16:
      return many<f16>(t);
    case DType::kBF16:
      return many<bf16>(t);
    case DType::kI8:
      return many<int8_t>(t);
    default:
      break;  // types of weights only
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace sepllm
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sepllm {
namespace {
HWY_EXPORT(AttentionMany);
HWY_EXPORT(AttentionManyScratch);
}  // namespace

void attention_many(const AttentionTask& t) { HWY_DYNAMIC_DISPATCH(AttentionMany)(t); }

int64_t attention_many_scratch(int64_t head_dim, int64_t lanes) {
  return HWY_DYNAMIC_DISPATCH(AttentionManyScratch)(head_dim, lanes);
}

}  // namespace sepllm
#endif  // HWY_ONCE
