// Attention of a tile of query rows (times the heads that share a kv head): vectors along the queries, so
// that K and V are read where they lie, broadcast element by element, and the softmax needs no sums across a
// vector. Queries are cut into groups of one register tile's width; a group's key range is its own, so masks
// touch only its edges.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/attention_many_simd.cc"
#include <hwy/foreach_target.h>  // must come first

#include <algorithm>
#include <type_traits>

#include "kernels/attention_task.h"
#include "kernels/element.h"
#include "kernels/simd-inl.h"

#ifndef SEPLLM_KERNELS_ATTENTION_MANY_ONCE
#define SEPLLM_KERNELS_ATTENTION_MANY_ONCE
namespace sepllm {
namespace {

constexpr int64_t kMostGroupLanes = 32;

}  // namespace
}  // namespace sepllm
#endif

HWY_BEFORE_NAMESPACE();
namespace sepllm {
namespace HWY_NAMESPACE {
namespace {

// The register tile: kVectors of queries by kKeys keys (scores) or kDims dims (sums).
constexpr int kVectors = HWY_TARGET == HWY_AVX3 ? 2 : 1;
constexpr int64_t kGroupLanes = kVectors * kLanes;
constexpr int kKeys = 8;
constexpr int kDims = 8;
static_assert(kGroupLanes <= kMostGroupLanes);

// All arrays of a task. Those of queries are by group: [n_groups][...][kGroupLanes].
struct ManyState {
  int64_t n_lanes, n_groups, head_dim;
  float* query[2];  // [head_dim] scaled
  float* sums;      // [head_dim]
  float* top;       // [1]
  float* total;     // [1]
  float* slope;     // [1] ALiBi
  float* distance;  // [1] ALiBi: place of the query less that of the task's first one
  int64_t* lo;      // [1] the lane's range in the current span
  int64_t* hi;
  float* weights;  // [key tile + kKeys][kGroupLanes] of one group: scores, then weights
  float* keys;     // [key tile][head_dim] converted
  float* values;
  float* key_distance;  // [key tile] ALiBi
};

// The keys [key, key + n) as floats.
struct KeyTile {
  const float* k;
  const float* v;
  int64_t stride;
  int64_t key, n;
};

ManyState carve(const AttentionTask& t) {
  ManyState s{};
  s.n_lanes = t.lanes();
  s.n_groups = (s.n_lanes + kGroupLanes - 1) / kGroupLanes;
  s.head_dim = t.args->head_dim;
  const int64_t lanes = s.n_groups * kGroupLanes;
  float* p = t.scratch;
  const auto take = [&p](int64_t n) {
    float* at = p;
    p += (n + 15) / 16 * 16;
    return at;
  };
  s.query[0] = take(lanes * s.head_dim);
  s.query[1] = t.needs_second_query() ? take(lanes * s.head_dim) : s.query[0];
  s.sums = take(lanes * s.head_dim);
  s.top = take(lanes);
  s.total = take(lanes);
  s.slope = take(lanes);
  s.distance = take(lanes);
  s.lo = reinterpret_cast<int64_t*>(take(2 * lanes));
  s.hi = reinterpret_cast<int64_t*>(take(2 * lanes));
  s.weights = take((kAttentionKeyTile + kKeys) * kGroupLanes);
  s.keys = take(kAttentionKeyTile * s.head_dim);
  s.values = take(kAttentionKeyTile * s.head_dim);
  s.key_distance = take(kAttentionKeyTile);
  return s;
}

// Lane l is row l / n_heads and head l % n_heads of the task.
void pack_queries(const AttentionTask& t, const ManyState& s, bool second, float* to) {
  const float scale = t.score_scale();
  std::fill_n(to, s.n_groups * kGroupLanes * s.head_dim, 0.0F);
  for (int64_t l = 0; l < s.n_lanes; ++l) {
    const float* q = t.query(second, l / t.n_heads, l % t.n_heads);
    float* column = to + l / kGroupLanes * kGroupLanes * s.head_dim + l % kGroupLanes;
    for (int64_t d = 0; d < s.head_dim; ++d) column[d * kGroupLanes] = q[d] * scale;
  }
}

void start(const AttentionTask& t, const ManyState& s) {
  pack_queries(t, s, false, s.query[0]);
  if (s.query[1] != s.query[0]) pack_queries(t, s, true, s.query[1]);
  const int64_t lanes = s.n_groups * kGroupLanes;
  std::fill_n(s.sums, lanes * s.head_dim, 0.0F);
  std::fill_n(s.top, lanes, kLowest);
  std::fill_n(s.total, lanes, 0.0F);
  std::fill_n(s.slope, lanes, 0.0F);
  std::fill_n(s.distance, lanes, 0.0F);
  std::fill_n(s.lo, lanes, int64_t{0});
  std::fill_n(s.hi, lanes, int64_t{0});
  if (t.args->alibi_slopes == nullptr) return;
  for (int64_t l = 0; l < s.n_lanes; ++l) s.slope[l] = t.slope(l % t.n_heads);
}

// What each lane sees of `span`, and, for ALiBi, how far its place is from the first row's.
void set_ranges(const AttentionTask& t, const ManyState& s, const KeySpan& span) {
  const bool alibi = t.args->alibi_slopes != nullptr;
  for (int64_t r = 0; r < t.n_rows; ++r) {
    const auto [lo, hi] = span.range(t.position(r));
    const float distance = alibi ? static_cast<float>(t.place(span, r) - t.place(span, 0)) : 0.0F;
    for (int64_t h = 0; h < t.n_heads; ++h) {
      s.lo[r * t.n_heads + h] = lo;
      s.hi[r * t.n_heads + h] = hi;
      s.distance[r * t.n_heads + h] = distance;
    }
  }
}

template <typename T>
void convert_rows(const T* from, int64_t stride, int64_t n, int64_t head_dim, const float* scales,
                  float* to) {
  for (int64_t j = 0; j < n; ++j) {
    const VF scale = hn::Set(DF(), scales != nullptr ? scales[j] : 1.0F);
    const T* row = from + j * stride;
    float* out = to + j * head_dim;
    int64_t d = 0;
    for (; d + kLanes <= head_dim; d += kLanes) store(hn::Mul(scale, load(row + d)), out + d);
    if (d < head_dim) store_n(hn::Mul(scale, load_n(row + d, head_dim - d)), out + d, head_dim - d);
  }
}

template <typename T>
KeyTile key_tile(const AttentionTask& t, const ManyState& s, const KeySpan& span, int64_t key, int64_t n) {
  const int64_t offset = t.kv_head() * span.head_stride + key * span.slot_stride;
  const T* k = static_cast<const T*>(span.k) + offset;
  const T* v = static_cast<const T*>(span.v) + offset;
  if (t.args->alibi_slopes != nullptr) {
    const int64_t place = t.place(span, 0);
    for (int64_t j = 0; j < n; ++j) s.key_distance[j] = static_cast<float>(span.encoded_at(key + j) - place);
  }
  if constexpr (std::is_same_v<T, float>) {
    return {k, v, span.slot_stride, key, n};
  } else {
    const bool scaled = std::is_same_v<T, int8_t>;
    const int64_t first_scale = t.kv_head() * span.scale_head_stride + key;
    convert_rows(k, span.slot_stride, n, s.head_dim, scaled ? span.k_scales + first_scale : nullptr, s.keys);
    convert_rows(v, span.slot_stride, n, s.head_dim, scaled ? span.v_scales + first_scale : nullptr,
                 s.values);
    return {s.keys, s.values, s.head_dim, key, n};
  }
}

// weights[j][lane] = query of the lane . key j, for kKeys keys.
HWY_INLINE void scores_block(const float* query, const float* const (&k)[kKeys], int64_t head_dim,
                             float* weights) {
  VF acc[kKeys][kVectors];
  HWY_UNROLL(8)
  for (int j = 0; j < kKeys; ++j) {
    HWY_UNROLL(2)
    for (int v = 0; v < kVectors; ++v) acc[j][v] = hn::Zero(DF());
  }
  for (int64_t d = 0; d < head_dim; ++d) {
    VF q[kVectors];
    HWY_UNROLL(2)
    for (int v = 0; v < kVectors; ++v) q[v] = hn::Load(DF(), query + d * kGroupLanes + v * kLanes);
    HWY_UNROLL(8)
    for (int j = 0; j < kKeys; ++j) {
      const VF b = hn::Set(DF(), k[j][d]);
      HWY_UNROLL(2)
      for (int v = 0; v < kVectors; ++v) acc[j][v] = hn::MulAdd(q[v], b, acc[j][v]);
    }
  }
  HWY_UNROLL(8)
  for (int j = 0; j < kKeys; ++j) {
    HWY_UNROLL(2)
    for (int v = 0; v < kVectors; ++v) hn::Store(acc[j][v], DF(), weights + j * kGroupLanes + v * kLanes);
  }
}

// Keys [begin, begin + n) of the tile; up to kKeys - 1 rows of scratch beyond n are written too.
void scores(const ManyState& s, const float* query, const KeyTile& tile, int64_t begin, int64_t n) {
  for (int64_t j = 0; j < n; j += kKeys) {
    const float* k[kKeys];
    for (int i = 0; i < kKeys; ++i) k[i] = tile.k + (begin + std::min(j + i, n - 1)) * tile.stride;
    scores_block(query, k, s.head_dim, s.weights + j * kGroupLanes);
  }
}

// Adds the ALiBi bias to vector `v` of a group's scores.
HWY_INLINE void add_alibi(const ManyState& s, int64_t lane, int64_t begin, int64_t n, float* scores) {
  const VF slope = hn::Load(DF(), s.slope + lane);
  const VF distance = hn::Load(DF(), s.distance + lane);
  for (int64_t j = 0; j < n; ++j) {
    const VF away = hn::Sub(hn::Set(DF(), s.key_distance[begin + j]), distance);
    float* at = scores + j * kGroupLanes;
    hn::Store(hn::MulAdd(slope, away, hn::Load(DF(), at)), DF(), at);
  }
}

// Masks the keys out of each lane's range; `key` is the row of the first score.
HWY_INLINE void mask_edges(const ManyState& s, int64_t lane, int64_t key, int64_t n, float* scores) {
  HWY_ALIGN int32_t bounds[2][kLanes];
  for (int64_t i = 0; i < kLanes; ++i) {
    bounds[0][i] = static_cast<int32_t>(std::clamp<int64_t>(s.lo[lane + i] - key, 0, n));
    bounds[1][i] = static_cast<int32_t>(std::clamp<int64_t>(s.hi[lane + i] - key, 0, n));
  }
  const auto lo = hn::Load(DI(), bounds[0]);
  const auto hi = hn::Load(DI(), bounds[1]);
  for (int64_t j = 0; j < n; ++j) {
    const auto row = hn::Set(DI(), static_cast<int32_t>(j));
    const auto outside = hn::Or(hn::Lt(row, lo), hn::Not(hn::Lt(row, hi)));
    float* at = scores + j * kGroupLanes;
    hn::Store(hn::IfThenElse(hn::RebindMask(DF(), outside), hn::Set(DF(), kMasked), hn::Load(DF(), at)), DF(),
              at);
  }
}

// Scores to weights relative to each lane's largest so far; returns the factor for what was summed before.
HWY_INLINE VF softmax(const ManyState& s, int64_t lane, int64_t n, float* scores) {
  const VF old_top = hn::Load(DF(), s.top + lane);
  VF top = old_top;
  for (int64_t j = 0; j < n; ++j) top = hn::Max(top, hn::Load(DF(), scores + j * kGroupLanes));
  VF total = hn::Zero(DF());
  for (int64_t j = 0; j < n; ++j) {
    float* at = scores + j * kGroupLanes;
    const VF p = exp2_fast(hn::Sub(hn::Load(DF(), at), top));
    total = hn::Add(total, p);
    hn::Store(p, DF(), at);
  }
  const VF factor = exp2_fast(hn::Sub(old_top, top));
  hn::Store(top, DF(), s.top + lane);
  hn::Store(hn::MulAdd(hn::Load(DF(), s.total + lane), factor, total), DF(), s.total + lane);
  return factor;
}

// sums[d, d + kN)[lane] = factor * sums + weights . values.
template <int kN>
HWY_INLINE void values_block(const float* weights, const float* v, int64_t stride, int64_t n,
                             const VF (&factor)[kVectors], float* sums) {
  VF acc[kN][kVectors];
  HWY_UNROLL(8)
  for (int d = 0; d < kN; ++d) {
    HWY_UNROLL(2)
    for (int i = 0; i < kVectors; ++i) {
      acc[d][i] = hn::Mul(hn::Load(DF(), sums + d * kGroupLanes + i * kLanes), factor[i]);
    }
  }
  for (int64_t j = 0; j < n; ++j) {
    VF p[kVectors];
    HWY_UNROLL(2)
    for (int i = 0; i < kVectors; ++i) p[i] = hn::Load(DF(), weights + j * kGroupLanes + i * kLanes);
    const float* row = v + j * stride;
    HWY_UNROLL(8)
    for (int d = 0; d < kN; ++d) {
      const VF b = hn::Set(DF(), row[d]);
      HWY_UNROLL(2)
      for (int i = 0; i < kVectors; ++i) acc[d][i] = hn::MulAdd(p[i], b, acc[d][i]);
    }
  }
  HWY_UNROLL(8)
  for (int d = 0; d < kN; ++d) {
    HWY_UNROLL(2)
    for (int i = 0; i < kVectors; ++i) hn::Store(acc[d][i], DF(), sums + d * kGroupLanes + i * kLanes);
  }
}

void values(const ManyState& s, const KeyTile& tile, int64_t begin, int64_t n, const VF (&factor)[kVectors],
            float* sums) {
  const float* v = tile.v + begin * tile.stride;
  int64_t d = 0;
  for (; d + kDims <= s.head_dim; d += kDims) {
    values_block<kDims>(s.weights, v + d, tile.stride, n, factor, sums + d * kGroupLanes);
  }
  for (; d + 4 <= s.head_dim; d += 4) {
    values_block<4>(s.weights, v + d, tile.stride, n, factor, sums + d * kGroupLanes);
  }
  for (; d < s.head_dim; ++d) {
    values_block<1>(s.weights, v + d, tile.stride, n, factor, sums + d * kGroupLanes);
  }
}

// One group of queries with the part of a key tile that any of them sees.
void group_tile(const AttentionTask& t, const ManyState& s, const KeySpan& span, const KeyTile& tile,
                int64_t group) {
  const int64_t lane = group * kGroupLanes;
  const int64_t last = std::min(lane + kGroupLanes, s.n_lanes) - 1;
  const int64_t begin = std::max(tile.key, s.lo[lane]) - tile.key;
  const int64_t n = std::min(tile.key + tile.n, s.hi[last]) - tile.key - begin;
  if (n <= 0) return;
  const float* query = s.query[span.second_query ? 1 : 0] + lane * s.head_dim;
  scores(s, query, tile, begin, n);
  const int64_t key = tile.key + begin;
  const bool edges = s.lo[last] > key || s.hi[lane] < key + n || last + 1 < lane + kGroupLanes;
  VF factor[kVectors];
  for (int v = 0; v < kVectors; ++v) {
    float* own = s.weights + v * kLanes;
    if (t.args->alibi_slopes != nullptr) add_alibi(s, lane + v * kLanes, begin, n, own);
    if (edges) mask_edges(s, lane + v * kLanes, key, n, own);
    factor[v] = softmax(s, lane + v * kLanes, n, own);
  }
  values(s, tile, begin, n, factor, s.sums + lane * s.head_dim);
}

void finish(const AttentionTask& t, const ManyState& s) {
  const int64_t n = s.head_dim;
  for (int64_t l = 0; l < s.n_lanes; ++l) {
    const float* column = s.sums + l / kGroupLanes * kGroupLanes * n + l % kGroupLanes;
    const int64_t r = l / t.n_heads;
    const int64_t h = l % t.n_heads;
    if (t.partial != nullptr) {
      float* to = t.partial_at(r, h);
      for (int64_t d = 0; d < n; ++d) to[d] = column[d * kGroupLanes];
      to[n] = s.top[l];
      to[n + 1] = s.total[l];
    } else {
      float* to = t.output(r, h);
      const float inverse = 1.0F / s.total[l];
      for (int64_t d = 0; d < n; ++d) to[d] = column[d * kGroupLanes] * inverse;
    }
  }
}

template <typename T>
void many(const AttentionTask& t) {
  const ManyState s = carve(t);
  start(t, s);
  for_each_range(t, [&](const KeySpan& span, int64_t lo, int64_t hi) {
    set_ranges(t, s, span);
    for (int64_t key = lo; key < hi; key += kAttentionKeyTile) {
      const KeyTile tile = key_tile<T>(t, s, span, key, std::min(kAttentionKeyTile, hi - key));
      for (int64_t g = 0; g < s.n_groups; ++g) group_tile(t, s, span, tile, g);
    }
  });
  finish(t, s);
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
}  // namespace

void attention_many(const AttentionTask& t) { HWY_DYNAMIC_DISPATCH(AttentionMany)(t); }

int64_t attention_many_scratch(int64_t head_dim, int64_t lanes) {
  const int64_t most = lanes + kMostGroupLanes;
  return 3 * most * head_dim + 8 * most + (kAttentionKeyTile + 16) * kMostGroupLanes +
         2 * kAttentionKeyTile * head_dim + kAttentionKeyTile + 16 * 16;
}

}  // namespace sepllm
#endif  // HWY_ONCE
