// Attention of a few lanes (rows times the heads of one kv head), as in decoding. It is limited by reading K
// and V, so they are read once for all lanes, element types are converted in registers, and the keys of a
// tile are read in streams (attention_streams-inl.h).
// Scores and weights lie in stream order: index 4 * i + s is key s * quarter + i of the tile.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/attention/attention_few_simd.cc"
#include <hwy/foreach_target.h>  // must come first

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "kernels/attention/attention_streams-inl.h"
#include "kernels/attention/attention_task.h"
#include "kernels/formats/element.h"
#include "kernels/simd-inl.h"

#ifndef SEPLLM_KERNELS_ATTENTION_FEW_ONCE
#define SEPLLM_KERNELS_ATTENTION_FEW_ONCE
namespace sepllm {
namespace {

constexpr int64_t kPad = 64;        // floats: at least two vectors of any instruction set
constexpr int64_t kFewTile = 1024;  // keys whose scores are computed before their softmax

constexpr int64_t padded(int64_t n) { return (n + kPad - 1) / kPad * kPad; }
constexpr int64_t kScoreStride = kFewTile + kPad;

}  // namespace
}  // namespace sepllm
#endif

HWY_BEFORE_NAMESPACE();
namespace sepllm {
namespace HWY_NAMESPACE {
namespace {

// With 32 registers, each loaded value serves twice as many sums.
constexpr bool kManyRegisters = HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_NEON;
constexpr int64_t kBlocks = std::max<int64_t>(1, kLanes / kStreams);  // of 128 bits in a vector
constexpr int kValueKeys = kManyRegisters ? 2 * kStreams : kStreams;  // values that are added together

// Arrays of a task. Lane l is row l / n_heads and head l % n_heads.
struct FewState {
  int64_t n_lanes, head_dim, stride;  // stride: head_dim, padded
  // Scaled, zeros beyond head_dim: [n_lanes][stride], or packed: [n_lanes / kBlocks][stride / 4][kBlocks][4].
  float* query[2];
  bool packed;
  float* keys;       // [kStreams][stride] converted
  float* sums;       // [n_lanes][stride]
  float* scores;     // [n_lanes][kScoreStride] scores, then weights; in stream order, like the arrays below
  float* key_scale;  // [kScoreStride] only for int8: the scales of the tile's keys
  float* value_scale;
  float* distance;  // [kScoreStride] ALiBi: place of the key minus place of the first row
  float top[kAttentionFewLanes];
  float total[kAttentionFewLanes];

  int64_t query_at(int64_t lane, int64_t d) const {
    if (!packed) return lane * stride + d;
    return (lane / kBlocks * stride + d / 4 * 4) * kBlocks + lane % kBlocks * 4 + d % 4;
  }
};

#if HWY_TARGET != HWY_SCALAR
// Adds up the 128-bit blocks of v and stores the four sums.
template <class D>
HWY_INLINE void store_sum_of_blocks(D d, hn::Vec<D> v, float* to) {
  if constexpr (hn::MaxLanes(d) > kStreams) {
    const hn::Half<D> half;
    store_sum_of_blocks(half, hn::Add(hn::LowerHalf(half, v), hn::UpperHalf(half, v)), to);
  } else {
    hn::StoreU(v, d, to);
  }
}
#endif

#if HWY_TARGET != HWY_SCALAR
// In each 128-bit block: the sums over the same block of the four vectors.
HWY_INLINE VF sums_in_blocks(VF a, VF b, VF c, VF e) {
  constexpr DF d;
  const VF ac = hn::Add(hn::InterleaveLower(d, a, c), hn::InterleaveUpper(d, a, c));
  const VF be = hn::Add(hn::InterleaveLower(d, b, e), hn::InterleaveUpper(d, b, e));
  return hn::Add(hn::InterleaveLower(d, ac, be), hn::InterleaveUpper(d, ac, be));
}
#endif

// to[0..3] = the sums of the lanes of four vectors.
HWY_INLINE void store_sums(VF a, VF b, VF c, VF e, float* to) {
#if HWY_TARGET == HWY_SCALAR
  to[0] = hn::GetLane(a), to[1] = hn::GetLane(b), to[2] = hn::GetLane(c), to[3] = hn::GetLane(e);
#else
  store_sum_of_blocks(DF(), sums_in_blocks(a, b, c, e), to);
#endif
}

// A row of K as floats that can be read in blocks of four: the row itself, or converted to `to`.
template <typename T>
HWY_INLINE const float* floats_of(const FewState& s, const T* row, float* to) {
  if constexpr (std::is_same_v<T, float>) {
    if (s.head_dim % 4 == 0) return row;
  }
  int64_t d = 0;
  for (; d + kLanes <= s.head_dim; d += kLanes) store(load(row + d), to + d);
  if (d < s.head_dim) store(load_n(row + d, s.head_dim - d), to + d);
  return to;
}

// scores[q][0..3] = query q . the four keys, for kQueries lanes.
template <int kQueries, typename T>
HWY_INLINE void score_keys(const float* query, int64_t stride, const T* const (&k)[kStreams], int64_t n,
                           float* scores) {
  VF acc[kQueries][kStreams];
  HWY_UNROLL(4)
  for (int a = 0; a < kQueries; ++a) {
    HWY_UNROLL(4)
    for (int j = 0; j < kStreams; ++j) acc[a][j] = hn::Zero(DF());
  }
  const auto add = [&](VF k0, VF k1, VF k2, VF k3, const float* q) HWY_ATTR {
    HWY_UNROLL(4)
    for (int a = 0; a < kQueries; ++a) {
      const VF v = load(q + a * stride);
      acc[a][0] = hn::MulAdd(k0, v, acc[a][0]);
      acc[a][1] = hn::MulAdd(k1, v, acc[a][1]);
      acc[a][2] = hn::MulAdd(k2, v, acc[a][2]);
      acc[a][3] = hn::MulAdd(k3, v, acc[a][3]);
    }
  };
  int64_t d = 0;
  for (; d + kLanes <= n; d += kLanes) {
    add(load(k[0] + d), load(k[1] + d), load(k[2] + d), load(k[3] + d), query + d);
  }
  if (d < n) {
    const int64_t rest = n - d;
    add(load_n(k[0] + d, rest), load_n(k[1] + d, rest), load_n(k[2] + d, rest), load_n(k[3] + d, rest),
        query + d);
  }
  HWY_UNROLL(4)
  for (int a = 0; a < kQueries; ++a) {
    store_sums(acc[a][0], acc[a][1], acc[a][2], acc[a][3], scores + a * kScoreStride);
  }
}

#if HWY_TARGET != HWY_SCALAR
// Stores block b of v at to[b * kScoreStride].
template <class D>
HWY_INLINE void store_blocks(D d, hn::Vec<D> v, float* to) {
  if constexpr (hn::MaxLanes(d) > kStreams) {
    const hn::Half<D> half;
    constexpr int64_t kHalfBlocks = hn::MaxLanes(half) / kStreams;
    store_blocks(half, hn::LowerHalf(half, v), to);
    store_blocks(half, hn::UpperHalf(half, v), to + kHalfBlocks * kScoreStride);
  } else {
    hn::StoreU(v, d, to);
  }
}
#endif

// The same as score_keys for kGroups times kBlocks lanes of packed queries: each block of a vector belongs to
// one lane, so sums run only within blocks. n is a multiple of 4.
template <int kGroups>
HWY_INLINE void score_blocks(const float* query, int64_t group_stride, const float* const (&k)[kStreams],
                             int64_t n, float* scores) {
#if HWY_TARGET != HWY_SCALAR
  constexpr DF d;
  VF acc[kGroups][kStreams];
  HWY_UNROLL(2)
  for (int g = 0; g < kGroups; ++g) {
    HWY_UNROLL(4)
    for (int j = 0; j < kStreams; ++j) acc[g][j] = hn::Zero(d);
  }
  for (int64_t i = 0; i < n; i += 4) {
    const VF k0 = hn::LoadDup128(d, k[0] + i), k1 = hn::LoadDup128(d, k[1] + i);
    const VF k2 = hn::LoadDup128(d, k[2] + i), k3 = hn::LoadDup128(d, k[3] + i);
    HWY_UNROLL(2)
    for (int g = 0; g < kGroups; ++g) {
      const VF q = load(query + g * group_stride + i * kBlocks);
      acc[g][0] = hn::MulAdd(q, k0, acc[g][0]);
      acc[g][1] = hn::MulAdd(q, k1, acc[g][1]);
      acc[g][2] = hn::MulAdd(q, k2, acc[g][2]);
      acc[g][3] = hn::MulAdd(q, k3, acc[g][3]);
    }
  }
  HWY_UNROLL(2)
  for (int g = 0; g < kGroups; ++g) {
    store_blocks(d, sums_in_blocks(acc[g][0], acc[g][1], acc[g][2], acc[g][3]),
                 scores + g * kBlocks * kScoreStride);
  }
#else
  static_cast<void>(query), static_cast<void>(group_stride), static_cast<void>(k), static_cast<void>(n);
  static_cast<void>(scores);
#endif
}

template <typename T>
void score_tile_packed(const FewState& s, const float* query, const FewTile<T>& tile) {
  const int64_t group_stride = kBlocks * s.stride;
  const int64_t n_groups = (s.n_lanes + kBlocks - 1) / kBlocks;
  const int64_t n = (s.head_dim + 3) / 4 * 4;
  StreamRows<T> rows(tile, tile.k);
  StreamPrefetch<T> prefetch(s.head_dim, tile, tile, tile.v);
  if (tile.first) prefetch.begin(tile, tile.k);
  for (int64_t i = 0; i < tile.quarter; ++i) {
    prefetch.step(rows);
    const float* k[kStreams];
    for (int64_t j = 0; j < kStreams; ++j) k[j] = floats_of(s, rows.row[j], s.keys + j * s.stride);
    rows.advance(tile.stride);
    float* to = s.scores + kStreams * i;
    int64_t g = 0;
    for (; g + 2 <= n_groups; g += 2) {
      score_blocks<2>(query + g * group_stride, group_stride, k, n, to + g * kBlocks * kScoreStride);
    }
    if (g < n_groups) {
      score_blocks<1>(query + g * group_stride, group_stride, k, n, to + g * kBlocks * kScoreStride);
    }
  }
}

template <typename T>
void score_tile(const FewState& s, const float* query, const FewTile<T>& tile) {
  StreamRows<T> rows(tile, tile.k);
  StreamPrefetch<T> prefetch(s.head_dim, tile, tile, tile.v);
  if (tile.first) prefetch.begin(tile, tile.k);
  for (int64_t i = 0; i < tile.quarter; ++i) {
    prefetch.step(rows);
    float* to = s.scores + kStreams * i;
    int64_t l = 0;
    for (; l + 2 <= s.n_lanes; l += 2) {
      score_keys<2>(query + l * s.stride, s.stride, rows.row, s.head_dim, to + l * kScoreStride);
    }
    if (l < s.n_lanes) {
      score_keys<1>(query + l * s.stride, s.stride, rows.row, s.head_dim, to + l * kScoreStride);
    }
    rows.advance(tile.stride);
  }
}

// Copies numbers of the tile's keys into stream order; from[0] belongs to the first key.
template <typename T>
void interleave(const FewTile<T>& tile, const float* from, float* to) {
  const int64_t q = tile.quarter;
  int64_t i = 0;
#if HWY_TARGET != HWY_SCALAR
  for (; i + kLanes <= tile.n - 3 * q; i += kLanes) {
    hn::StoreInterleaved4(load(from + i), load(from + q + i), load(from + 2 * q + i), load(from + 3 * q + i),
                          DF(), to + kStreams * i);
  }
#endif
  for (; i < q; ++i) {
    for (int64_t s = 0; s < kStreams; ++s) to[kStreams * i + s] = from[std::min(s * q + i, tile.n - 1)];
  }
}

// Adds what scores need in addition to the products: the keys' scales, and the ALiBi bias.
HWY_INLINE void adjust_scores(const FewState& s, int64_t lane, int64_t n, bool scaled, float slope,
                              float distance) {
  float* scores = s.scores + lane * kScoreStride;
  for (int64_t i = 0; i < n; i += kLanes) {
    VF v = load(scores + i);
    if (scaled) v = hn::Mul(v, load(s.key_scale + i));
    if (slope != 0.0F) {
      const VF away = hn::Sub(load(s.distance + i), hn::Set(DF(), distance));
      v = hn::MulAdd(hn::Set(DF(), slope), away, v);
    }
    store(v, scores + i);
  }
}

// Masks everything outside the keys [lo, hi) of the tile.
template <typename T>
void mask(const FewTile<T>& tile, int64_t lo, int64_t hi, int64_t n, float* scores) {
  const int64_t q = tile.quarter;
  for (int64_t s = 0; s < kStreams; ++s) {
    const int64_t first = std::clamp<int64_t>(lo - s * q, 0, q);
    const int64_t last = std::clamp<int64_t>(hi - s * q, 0, q);
    for (int64_t i = 0; i < first; ++i) scores[kStreams * i + s] = kMasked;
    for (int64_t i = last; i < q; ++i) scores[kStreams * i + s] = kMasked;
  }
  for (int64_t i = tile.n_scores(); i < n; ++i) scores[i] = kMasked;
}

// Turns n scores of a lane into weights relative to the largest so far (int8: times the values' scales), and
// rescales what was summed before.
HWY_INLINE void weights_of(FewState& s, int64_t lane, int64_t n, bool scaled) {
  float* scores = s.scores + lane * kScoreStride;
  VF top = hn::Set(DF(), s.top[lane]);
  for (int64_t i = 0; i < n; i += kLanes) top = hn::Max(top, load(scores + i));
  const float new_top = reduce_max(top);
  const VF shift = hn::Set(DF(), new_top);
  VF total = hn::Zero(DF());
  for (int64_t i = 0; i < n; i += kLanes) {
    const VF p = exp2_fast(hn::Sub(load(scores + i), shift));
    total = hn::Add(total, p);
    store(scaled ? hn::Mul(p, load(s.value_scale + i)) : p, scores + i);
  }
  const VF factor = exp2_fast(hn::Set(DF(), s.top[lane] - new_top));
  s.total[lane] = s.total[lane] * hn::GetLane(factor) + reduce_sum(total);
  s.top[lane] = new_top;
  float* sums = s.sums + lane * s.stride;
  for (int64_t d = 0; d < s.stride; d += kLanes) store(hn::Mul(load(sums + d), factor), sums + d);
}

// sums[lane][d, d + kColumns vectors) += weights . values, for kValueKeys values and all lanes; n is the
// number of elements if they fill less than a vector, else 0.
template <int kColumns, typename T>
HWY_INLINE void add_columns(const FewState& s, const float* weights, const T* const (&v)[kValueKeys],
                            int64_t d, int64_t n) {
  VF rows[kValueKeys][kColumns];
  HWY_UNROLL(8)
  for (int j = 0; j < kValueKeys; ++j) {
    HWY_UNROLL(2)
    for (int c = 0; c < kColumns; ++c) rows[j][c] = n > 0 ? load_n(v[j] + d, n) : load(v[j] + d + c * kLanes);
  }
  for (int64_t l = 0; l < s.n_lanes; ++l) {
    float* sums = s.sums + l * s.stride + d;
    VF acc[kColumns];
    HWY_UNROLL(2)
    for (int c = 0; c < kColumns; ++c) acc[c] = load(sums + c * kLanes);
    HWY_UNROLL(8)
    for (int j = 0; j < kValueKeys; ++j) {
      const VF p = hn::Set(DF(), weights[l * kScoreStride + j]);
      HWY_UNROLL(2)
      for (int c = 0; c < kColumns; ++c) acc[c] = hn::MulAdd(rows[j][c], p, acc[c]);
    }
    HWY_UNROLL(2)
    for (int c = 0; c < kColumns; ++c) store(acc[c], sums + c * kLanes);
  }
}

template <typename T>
void value_tile(const FewState& s, const FewTile<T>& tile, const FewTile<T>& next) {
  StreamRows<T> rows(tile, tile.v);
  StreamPrefetch<T> prefetch(s.head_dim, tile, next, next.k);
  for (int64_t i = 0; i < tile.quarter; i += kValueKeys / kStreams) {
    prefetch_scales(next, i);
    const T* v[kValueKeys];
    for (int64_t j = 0; j < kValueKeys; j += kStreams) {
      prefetch.step(rows);
      std::copy_n(rows.row, kStreams, v + j);
      rows.advance(tile.stride);
    }
    const float* weights = s.scores + kStreams * i;
    int64_t d = 0;
    for (; d + 2 * kLanes <= s.head_dim; d += 2 * kLanes) add_columns<2>(s, weights, v, d, 0);
    if (d + kLanes <= s.head_dim) {
      add_columns<1>(s, weights, v, d, 0);
      d += kLanes;
    }
    if (d < s.head_dim) add_columns<1>(s, weights, v, d, s.head_dim - d);
  }
}

FewState layout(int64_t head_dim, int64_t n_lanes, bool second_query, Carver& carver) {
  FewState s{};
  s.n_lanes = n_lanes;
  s.head_dim = head_dim;
  s.stride = padded(head_dim);
  // With two lanes or fewer in wide vectors, most of a packed query would be empty.
  s.packed = kBlocks >= 2 && n_lanes > kBlocks / 2;
  s.query[0] = carver.floats(kAttentionFewLanes * s.stride);
  s.query[1] = second_query ? carver.floats(kAttentionFewLanes * s.stride) : s.query[0];
  s.keys = carver.floats(kStreams * s.stride);
  s.sums = carver.floats(n_lanes * s.stride);
  s.scores = carver.floats(kAttentionFewLanes * kScoreStride);
  s.key_scale = carver.floats(kScoreStride);
  s.value_scale = carver.floats(kScoreStride);
  s.distance = carver.floats(kScoreStride);
  return s;
}

FewState start(const AttentionTask& t) {
  Carver carver(t.scratch);
  FewState s = layout(t.args->head_dim(), t.lanes(), t.needs_second_query(), carver);
  const int64_t query_size = kAttentionFewLanes * s.stride;
  for (int second = 0; second < (s.query[1] != s.query[0] ? 2 : 1); ++second) {
    std::fill_n(s.query[second], query_size, 0.0F);
    for (int64_t l = 0; l < s.n_lanes; ++l) {
      const float* q = t.query(second != 0, l / t.n_heads, l % t.n_heads);
      for (int64_t d = 0; d < s.head_dim; ++d) s.query[second][s.query_at(l, d)] = q[d] * t.score_scale();
    }
  }
  std::fill_n(s.sums, s.n_lanes * s.stride, 0.0F);
  std::fill_n(s.top, s.n_lanes, kLowest);
  return s;
}

void finish(const AttentionTask& t, const FewState& s) {
  const int64_t n = s.head_dim;
  for (int64_t l = 0; l < s.n_lanes; ++l) {
    const float* sums = s.sums + l * s.stride;
    if (t.partial != nullptr) {
      float* to = t.partial_at(l / t.n_heads, l % t.n_heads);
      std::copy_n(sums, n, to);
      to[n] = s.top[l];
      to[n + 1] = s.total[l];
    } else {
      const float inverse = 1.0F / s.total[l];
      float* to = t.output(l / t.n_heads, l % t.n_heads);
      for (int64_t d = 0; d < n; ++d) to[d] = sums[d] * inverse;
    }
  }
}

// Processes one tile of keys for all lanes; `next` will be read after it.
template <typename T>
void few_tile(const AttentionTask& t, FewState& s, const KeySpan& span, const FewTile<T>& tile,
              const FewTile<T>& next) {
  constexpr bool kScaled = std::is_same_v<T, int8_t>;
  const bool alibi = t.args->alibi_slopes != nullptr;
  if (kScaled) {
    interleave(tile, tile.k_scales, s.key_scale);
    interleave(tile, tile.v_scales, s.value_scale);
    // The products also take weights behind the tile's last, which are 0 only if no scale there is NaN or
    // infinite, as what an earlier use of the scratch left may be.
    std::fill_n(s.value_scale + tile.n_scores(), kScoreStride - tile.n_scores(), 0.0F);
  }
  if (alibi) {
    const int64_t place = t.place(span.second_query, 0);
    for (int64_t i = 0; i < tile.n_scores(); ++i) {
      const int64_t key = tile.key + std::min(i % kStreams * tile.quarter + i / kStreams, tile.n - 1);
      s.distance[i] = static_cast<float>(span.encoded_at(key) - place);
    }
  }
  const float* query = s.query[span.second_query ? 1 : 0];
  s.packed ? score_tile_packed(s, query, tile) : score_tile(s, query, tile);
  const int64_t n = (tile.n_scores() + 15) / 16 * 16;
  for (int64_t l = 0; l < s.n_lanes; ++l) {
    const int64_t r = l / t.n_heads;
    if (kScaled || alibi) {
      const float slope = alibi ? t.slope(l / t.n_heads, l % t.n_heads) : 0.0F;
      const float distance =
          alibi ? static_cast<float>(t.place(span.second_query, r) - t.place(span.second_query, 0)) : 0.0F;
      adjust_scores(s, l, n, kScaled, slope, distance);
    }
    const auto [lo, hi] = span.range(t.position(r));
    mask(tile, lo - tile.key, std::min(hi - tile.key, tile.n), n, s.scores + l * kScoreStride);
    weights_of(s, l, n, kScaled);
  }
  value_tile(s, tile, next);
}

// Calls fn(span, tile) for all tiles of a task.
template <typename T, typename Fn>
void for_each_tile(const AttentionTask& t, const Fn& fn) {
  bool first = true;
  for_each_range(t, [&](const KeySpan& span, int64_t lo, int64_t hi) {
    for (int64_t key = lo; key < hi; key += kFewTile) {
      const int64_t n = std::min(kFewTile, hi - key);
      const int64_t at = t.kv_head() * span.head_stride + key * span.slot_stride;
      const T* k = static_cast<const T*>(span.k) + at;
      const T* v = static_cast<const T*>(span.v) + at;
      FewTile<T> tile{k, v, span.slot_stride, key, n, (n + kStreams - 1) / kStreams, first, nullptr, nullptr};
      if constexpr (std::is_same_v<T, int8_t>) {
        tile.k_scales = span.k_scales + t.kv_head() * span.scale_head_stride + key;
        tile.v_scales = span.v_scales + t.kv_head() * span.scale_head_stride + key;
      }
      fn(span, tile);
      first = false;
    }
  });
}

template <typename T>
void few(const AttentionTask& t) {
  FewState s = start(t);
  // Each tile is processed when the next one is known.
  const KeySpan* span = nullptr;
  FewTile<T> tile{};
  for_each_tile<T>(t, [&](const KeySpan& next_span, const FewTile<T>& next) {
    if (span != nullptr) few_tile(t, s, *span, tile, next);
    span = &next_span;
    tile = next;
  });
  FewTile<T> next{};
  if (t.next != nullptr && t.next->sequence->kv_type == t.sequence->kv_type) {
    for_each_tile<T>(*t.next, [&](const KeySpan&, const FewTile<T>& of_next) {
      if (of_next.first) next = of_next;
    });
  }
  if (span != nullptr) few_tile(t, s, *span, tile, next);
  finish(t, s);
}

int64_t AttentionFewScratch(int64_t head_dim) {
  Carver carver;
  layout(head_dim, kAttentionFewLanes, /*second_query=*/true, carver);
  return carver.used();
}

void AttentionFew(const AttentionTask& t) {
  switch (t.sequence->kv_type) {
    case DType::kF32:
      return few<float>(t);
    case DType::kF16:
      return few<f16>(t);
    case DType::kBF16:
      return few<bf16>(t);
    case DType::kI8:
      return few<int8_t>(t);
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
HWY_EXPORT(AttentionFew);
HWY_EXPORT(AttentionFewScratch);
}  // namespace

void attention_few(const AttentionTask& t) {
  SEPLLM_CHECK(t.lanes() <= kAttentionFewLanes && t.args->log_sum_exp.data == nullptr && !t.stream_output);
  HWY_DYNAMIC_DISPATCH(AttentionFew)(t);
}

int64_t attention_few_scratch(int64_t head_dim) {
  return HWY_DYNAMIC_DISPATCH(AttentionFewScratch)(head_dim);
}

}  // namespace sepllm
#endif  // HWY_ONCE
