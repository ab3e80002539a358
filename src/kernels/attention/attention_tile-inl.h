// The register kernels of attention over tiles, forward and backward: three products between a group of
// queries (vectors along the queries), key rows and row sums. Compiled once per instruction set: include
// after foreach_target.h.
//
// Vectors run along the queries, so that K and V are read as they lie, one element broadcast at a time; the
// softmax needs no sums across a vector, and a range of keys may begin and end anywhere.
#if defined(SEPLLM_KERNELS_ATTENTION_TILE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SEPLLM_KERNELS_ATTENTION_TILE_INL_H_
#undef SEPLLM_KERNELS_ATTENTION_TILE_INL_H_
#else
#define SEPLLM_KERNELS_ATTENTION_TILE_INL_H_
#endif

#include <array>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <span>
#include <utility>

#include "kernels/prefetch.h"
#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sepllm {
namespace HWY_NAMESPACE {

// A group of queries is two vectors wide.
inline constexpr int64_t kGroupLanes = 2 * kLanes;

// Accumulators that fit into the registers, with two vectors of operands: 24 of 32, or 12 of 16.
#if HWY_TARGET == HWY_AVX3 || HWY_ARCH_ARM_A64
inline constexpr int kMostKeys = 12;       // of scores: times 2 vectors of queries
inline constexpr int kMostDimVectors = 4;  // of sums: times kMostRows queries or key rows
#else
inline constexpr int kMostKeys = 6;
inline constexpr int kMostDimVectors = 2;
#endif
inline constexpr int kMostRows = 6;

// The vectors of a group that take part.
enum VectorSet : int { kFirst = 1, kSecond = 2, kBoth = 3 };

// Cuts [0, n) into as few parts of at most `most` as possible, of nearly equal size, and calls fn(begin,
// size).
template <typename Fn>
HWY_INLINE void for_even_parts(int64_t n, int64_t most, const Fn& fn) {
  const int64_t parts = (n + most - 1) / most;
  for (int64_t p = 0, begin = 0; p < parts; ++p) {
    const int64_t size = (n - begin) / (parts - p);
    fn(begin, size);
    begin += size;
  }
}

// --- Scores: to[row][lane] = sum over d of query[d][lane] * rows[row][d] ---

// kStride: elements between rows, or 0 where `stride` says it. (A constant one makes every row's address a
// displacement.)
template <int kN, int kVectors, int kStride>
HWY_NOINLINE void score_part(const float* HWY_RESTRICT query, const float* HWY_RESTRICT rows, int64_t stride,
                             int64_t head_dim, float* HWY_RESTRICT to) {
  const DF d;
  const int64_t step = kStride != 0 ? kStride : stride;
  VF acc[kN][kVectors];
  HWY_UNROLL(12)
  for (int j = 0; j < kN; ++j) {
    HWY_UNROLL(2)
    for (int v = 0; v < kVectors; ++v) acc[j][v] = hn::Zero(d);
  }
  for (int64_t i = 0; i < head_dim; ++i) {
    VF q[kVectors];
    HWY_UNROLL(2)
    for (int v = 0; v < kVectors; ++v) q[v] = hn::Load(d, query + i * kGroupLanes + v * kLanes);
    HWY_UNROLL(12)
    for (int j = 0; j < kN; ++j) {
      const VF b = hn::Set(d, rows[j * step + i]);
      HWY_UNROLL(2)
      for (int v = 0; v < kVectors; ++v) acc[j][v] = hn::MulAdd(q[v], b, acc[j][v]);
    }
  }
  HWY_UNROLL(12)
  for (int j = 0; j < kN; ++j) {
    HWY_UNROLL(2)
    for (int v = 0; v < kVectors; ++v) hn::Store(acc[j][v], d, to + j * kGroupLanes + v * kLanes);
  }
}

using ScorePart = void (*)(const float*, const float*, int64_t, int64_t, float*);

template <int kVectors, int kStride, size_t... kN>
constexpr std::array<ScorePart, sizeof...(kN)> score_parts(std::index_sequence<kN...>) {
  return {&score_part<static_cast<int>(kN) + 1, kVectors, kStride>...};
}

template <int kStride>
void scores_of_stride(const float* query, const float* rows, int64_t stride, int64_t n, int64_t head_dim,
                      VectorSet set, float* to, TilePrefetcher& ahead) {
  static constexpr auto kOne = score_parts<1, kStride>(std::make_index_sequence<kMostKeys>());
  static constexpr auto kTwo = score_parts<2, kStride>(std::make_index_sequence<kMostKeys>());
  const int64_t offset = set == kSecond ? kLanes : 0;
  const auto& parts = set == kBoth ? kTwo : kOne;
  for_even_parts(n, kMostKeys, [&](int64_t begin, int64_t size) {
    ahead.step();
    parts[static_cast<size_t>(size - 1)](query + offset, rows + begin * stride, stride, head_dim,
                                         to + begin * kGroupLanes + offset);
  });
}

// query: [head_dim][kGroupLanes], to: [n][kGroupLanes]; only the lanes of `set` are written.
inline void tile_scores(const float* query, const float* rows, int64_t stride, int64_t n, int64_t head_dim,
                        VectorSet set, float* to, TilePrefetcher& ahead) {
  switch (stride) {
    case 64:
      return scores_of_stride<64>(query, rows, stride, n, head_dim, set, to, ahead);
    case 128:
      return scores_of_stride<128>(query, rows, stride, n, head_dim, set, to, ahead);
    case 256:
      return scores_of_stride<256>(query, rows, stride, n, head_dim, set, to, ahead);
    default:
      return scores_of_stride<0>(query, rows, stride, n, head_dim, set, to, ahead);
  }
}

// --- Sums over keys: to[lane][d] = factor[lane] * to + sum over rows of weights[row][lane] * rows[row][d]
// ---

// Key rows and, for the first of some lanes, their weights.
struct KeyRun {
  const float* rows;     // [n][stride]
  const float* weights;  // [n][kGroupLanes]
  int64_t n;
};

template <int kQueries, int kVectors>
HWY_NOINLINE void key_sums_part(const KeyRun* runs, int64_t n_runs, int64_t stride, int64_t first_dim,
                                const float* factor, int64_t to_stride, float* HWY_RESTRICT to) {
  const DF d;
  VF acc[kQueries][kVectors];
  to += first_dim;
  HWY_UNROLL(6)
  for (int l = 0; l < kQueries; ++l) {
    const VF f = hn::Set(d, factor[l]);
    HWY_UNROLL(4)
    for (int v = 0; v < kVectors; ++v) acc[l][v] = hn::Mul(f, hn::Load(d, to + l * to_stride + v * kLanes));
  }
  for (int64_t r = 0; r < n_runs; ++r) {
    const float* HWY_RESTRICT x = runs[r].rows + first_dim;
    const float* HWY_RESTRICT w = runs[r].weights;
    for (int64_t j = 0; j < runs[r].n; ++j, x += stride, w += kGroupLanes) {
      VF row[kVectors];
      HWY_UNROLL(4)
      for (int v = 0; v < kVectors; ++v) row[v] = hn::LoadU(d, x + v * kLanes);
      HWY_UNROLL(6)
      for (int l = 0; l < kQueries; ++l) {
        const VF b = hn::Set(d, w[l]);
        HWY_UNROLL(4)
        for (int v = 0; v < kVectors; ++v) acc[l][v] = hn::MulAdd(row[v], b, acc[l][v]);
      }
    }
  }
  HWY_UNROLL(6)
  for (int l = 0; l < kQueries; ++l) {
    HWY_UNROLL(4)
    for (int v = 0; v < kVectors; ++v) hn::Store(acc[l][v], d, to + l * to_stride + v * kLanes);
  }
}

using KeySumsPart = void (*)(const KeyRun*, int64_t, int64_t, int64_t, const float*, int64_t, float*);

template <int kVectors, size_t... kQ>
constexpr std::array<KeySumsPart, sizeof...(kQ)> key_sums_parts(std::index_sequence<kQ...>) {
  return {&key_sums_part<static_cast<int>(kQ) + 1, kVectors>...};
}

template <size_t... kV>
constexpr auto key_sums_table(std::index_sequence<kV...>) {
  return std::array{key_sums_parts<static_cast<int>(kV) + 1>(std::make_index_sequence<kMostRows>())...};
}

// For n_lanes in [1, kMostRows] queries. Rows of `to` are padded to whole vectors, and key rows may be read
// up to a whole vector.
inline void tile_key_sums(std::span<const KeyRun> runs, int64_t stride, int64_t head_dim, int64_t n_lanes,
                          const float* factor, int64_t to_stride, float* to, TilePrefetcher& ahead) {
  static constexpr auto kTable = key_sums_table(std::make_index_sequence<kMostDimVectors>());
  const int64_t n_vectors = (head_dim + kLanes - 1) / kLanes;
  for_even_parts(n_vectors, kMostDimVectors, [&](int64_t begin, int64_t size) {
    ahead.step();
    kTable[static_cast<size_t>(size - 1)][static_cast<size_t>(n_lanes - 1)](
        runs.data(), std::ssize(runs), stride, begin * kLanes, factor, to_stride, to);
  });
}

// --- Sums over queries: to[row][d] += sum over lanes of weights[row][lane] * queries[lane][d] ---

// Some lanes of one group.
struct LaneRun {
  const float* weights;  // of the first key row, at the first lane: [rows][kGroupLanes]
  const float* queries;  // [n][stride]
  int64_t n;
};

template <int kRows, int kVectors>
HWY_NOINLINE void lane_sums_part(const LaneRun* runs, int64_t n_runs, int64_t stride,
                                 float* HWY_RESTRICT to) {
  const DF d;
  VF acc[kRows][kVectors];
  HWY_UNROLL(6)
  for (int j = 0; j < kRows; ++j) {
    HWY_UNROLL(4)
    for (int v = 0; v < kVectors; ++v) acc[j][v] = hn::Load(d, to + j * stride + v * kLanes);
  }
  for (int64_t r = 0; r < n_runs; ++r) {
    const float* HWY_RESTRICT w = runs[r].weights;
    const float* HWY_RESTRICT x = runs[r].queries;
    for (int64_t l = 0; l < runs[r].n; ++l, ++w, x += stride) {
      VF q[kVectors];
      HWY_UNROLL(4)
      for (int v = 0; v < kVectors; ++v) q[v] = hn::Load(d, x + v * kLanes);
      HWY_UNROLL(6)
      for (int j = 0; j < kRows; ++j) {
        const VF b = hn::Set(d, w[j * kGroupLanes]);
        HWY_UNROLL(4)
        for (int v = 0; v < kVectors; ++v) acc[j][v] = hn::MulAdd(q[v], b, acc[j][v]);
      }
    }
  }
  HWY_UNROLL(6)
  for (int j = 0; j < kRows; ++j) {
    HWY_UNROLL(4)
    for (int v = 0; v < kVectors; ++v) hn::Store(acc[j][v], d, to + j * stride + v * kLanes);
  }
}

using LaneSumsPart = void (*)(const LaneRun*, int64_t, int64_t, float*);

template <int kVectors, size_t... kRows>
constexpr std::array<LaneSumsPart, sizeof...(kRows)> lane_sums_parts(std::index_sequence<kRows...>) {
  return {&lane_sums_part<static_cast<int>(kRows) + 1, kVectors>...};
}

template <size_t... kV>
constexpr auto lane_sums_table(std::index_sequence<kV...>) {
  return std::array{lane_sums_parts<static_cast<int>(kV) + 1>(std::make_index_sequence<kMostRows>())...};
}

// n_rows in [1, kMostRows]. Rows of `to` and of the queries are padded to whole vectors: what pads the
// queries is zero.
inline void tile_lane_sums(const LaneRun* runs, int64_t n_runs, int64_t stride, int64_t head_dim,
                           int64_t n_rows, LaneRun* moved, float* to, TilePrefetcher& ahead) {
  static constexpr auto kTable = lane_sums_table(std::make_index_sequence<kMostDimVectors>());
  const int64_t n_vectors = (head_dim + kLanes - 1) / kLanes;
  for_even_parts(n_vectors, kMostDimVectors, [&](int64_t begin, int64_t size) {
    ahead.step();
    for (int64_t r = 0; r < n_runs; ++r) {
      moved[r] = {runs[r].weights, runs[r].queries + begin * kLanes, runs[r].n};
    }
    kTable[static_cast<size_t>(size - 1)][static_cast<size_t>(n_rows - 1)](moved, n_runs, stride,
                                                                           to + begin * kLanes);
  });
}

// --- exp2 for softmax ---

// 2^x for x <= 1, relative error about 1e-7; 0 or below 2^-125 for x <= -126. NaN stays NaN.
HWY_INLINE VF exp2_tile(VF x) {
  const DF d;
#if HWY_TARGET == HWY_AVX3
  const VF f{_mm512_reduce_ps(x.raw, 1)};  // x - floor(x)
  VF p = hn::Set(d, 0.00187757668F);       // minimax on [0, 1]: relative error 7.5e-8
  p = hn::MulAdd(p, f, hn::Set(d, 0.00898934014F));
  p = hn::MulAdd(p, f, hn::Set(d, 0.0558263179F));
  p = hn::MulAdd(p, f, hn::Set(d, 0.240153617F));
  p = hn::MulAdd(p, f, hn::Set(d, 0.693153073F));
  p = hn::MulAdd(p, f, hn::Set(d, 0.999999925F));
  return VF{_mm512_scalef_ps(p.raw, x.raw)};  // p * 2^floor(x)
#else
  x = hn::Max(hn::Set(d, -126.0F), x);
  // 1.5 * 2^23 + 127: the sum is rounded to a whole number, and its low bits are the exponent of 2^whole.
  const VF magic = hn::Set(d, 12583039.0F);
  const VF shifted = hn::Add(x, magic);
  const VF f = hn::Sub(x, hn::Sub(shifted, magic));
  VF p = hn::Set(d, 0.0013276472F);  // minimax on [-1/2, 1/2]: relative error 7.5e-8
  p = hn::MulAdd(p, f, hn::Set(d, 0.00967554138F));
  p = hn::MulAdd(p, f, hn::Set(d, 0.0555071327F));
  p = hn::MulAdd(p, f, hn::Set(d, 0.240221197F));
  p = hn::MulAdd(p, f, hn::Set(d, 0.693146967F));
  p = hn::MulAdd(p, f, hn::Set(d, 1.00000007F));
  return hn::Mul(p, hn::BitCast(d, hn::ShiftLeft<23>(hn::BitCast(DI(), shifted))));
#endif
}

}  // namespace HWY_NAMESPACE
}  // namespace sepllm
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
