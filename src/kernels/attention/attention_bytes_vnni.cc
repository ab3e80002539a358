#include <cstdint>

#include "base/check.h"
#include "kernels/attention/attention_bytes.h"
#include "kernels/cpu_features.h"

#if defined(__x86_64__)
// False alarms of GCC 12 on its own intrinsics.
#pragma GCC diagnostic ignored "-Wuninitialized"
#include <hwy/base.h>
#include <immintrin.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "kernels/prefetch.h"

#define SEPLLM_ALWAYS __attribute__((always_inline))

HWY_PUSH_ATTRIBUTES("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")

namespace sepllm {
namespace {

constexpr int kLanes = 4;           // lanes whose sums share the registers
constexpr int64_t kScoreKeys = 32;  // keys that are multiplied with the queries at a time
constexpr int64_t kFours = kByteMostHeadDim / 4;

// Arrays of a task. Lane l is row l / n_heads and head l % n_heads.
struct ByteState {
  int64_t n_lanes, head_dim;
  int64_t n_fours;   // of a row: four bytes that one lane of a product takes
  int64_t n_chunks;  // of a row: 64 bytes, the last one filled up with zeros
  // [lanes][2][kFours] the high and low bytes of Q, four to an integer; [1]: of the second query
  int32_t* query[2];
  int32_t* start[2];  // [lanes][2] -128 * the sum of those bytes, because keys are taken as k + 128
  float* step[2];     // [lanes] what Q is multiplied by
  float* scores;      // [lanes][kByteTile]
  uint8_t* weights;   // [lanes][2][kByteTile] the high and low bytes of W
  float* steps;       // [lanes][kByteTile / kByteBlock] what W is multiplied by
  float* sums;        // [lanes][n_chunks][64] in the order of packed values
  float* top;         // [lanes]
  float* total;       // [lanes]
  float* distance;    // [kByteTile] ALiBi: place of the key minus place of the first row
  // Keys as [n_chunks * 16][kScoreKeys][4], or values as [kByteBlock / 4][n_chunks][64][4].
  int8_t* packed;
};

int64_t padded(int64_t lanes) { return (lanes + kLanes - 1) / kLanes * kLanes; }

ByteState layout(int64_t head_dim, int64_t n_lanes, bool second_query, Carver& carver) {
  ByteState s{};
  s.n_lanes = n_lanes;
  s.head_dim = head_dim;
  s.n_fours = (head_dim + 3) / 4;
  s.n_chunks = (head_dim + 63) / 64;
  const int64_t lanes = padded(n_lanes);
  for (int i = 0; i < 2; ++i) {
    const bool shared = i == 1 && !second_query;
    s.query[i] = shared ? s.query[0] : carver.ints(lanes * 2 * kFours);
    s.start[i] = shared ? s.start[0] : carver.ints(lanes * 2);
    s.step[i] = shared ? s.step[0] : carver.floats(lanes);
  }
  s.scores = carver.floats(lanes * kByteTile);
  s.weights = reinterpret_cast<uint8_t*>(carver.floats(lanes * 2 * kByteTile / 4));
  s.steps = carver.floats(lanes * (kByteTile / kByteBlock));
  s.sums = carver.floats(lanes * s.n_chunks * 64);
  s.top = carver.floats(lanes);
  s.total = carver.floats(lanes);
  s.distance = carver.floats(kByteTile);
  s.packed = reinterpret_cast<int8_t*>(carver.floats(s.n_chunks * 64 * kByteBlock / 4));
  return s;
}

// Rounds a query to Q.
void round_query(const float* q, float scale, int64_t n, int64_t lane, int which, const ByteState& s) {
  const auto elements = [&](int64_t d) SEPLLM_ALWAYS {
    const auto mask = static_cast<__mmask16>(n - d >= 16 ? 0xFFFF : (1 << (n - d)) - 1);
    return _mm512_mul_ps(_mm512_maskz_loadu_ps(mask, q + d), _mm512_set1_ps(scale));
  };
  // Without their signs, numbers have the order of integers, and NaN is the largest.
  __m512i most_bits = _mm512_setzero_si512();
  for (int64_t d = 0; d < n; d += 16)
    most_bits = _mm512_max_epu32(most_bits, _mm512_castps_si512(_mm512_abs_ps(elements(d))));
  const float most = std::bit_cast<float>(_mm512_reduce_max_epu32(most_bits));
  // An overflow must not go unnoticed.
  s.step[which][lane] = std::isfinite(most) ? most / kByteQueryMost : std::numeric_limits<float>::quiet_NaN();
  const float factor = std::isfinite(most) && most > 0.0F ? kByteQueryMost / most : 0.0F;
  auto* bytes = reinterpret_cast<int8_t*>(s.query[which] + lane * 2 * kFours);
  const __m512i half = _mm512_set1_epi32(128), limit = _mm512_set1_epi32(kByteQueryMost);
  __m512i sums[2] = {_mm512_setzero_si512(), _mm512_setzero_si512()};
  for (int64_t d = 0; d < n; d += 16) {
    const __m512i whole =
        _mm512_min_epi32(_mm512_cvtps_epi32(_mm512_mul_ps(elements(d), _mm512_set1_ps(factor))), limit);
    const __m512i high = _mm512_srai_epi32(_mm512_add_epi32(whole, half), 8);
    const __m512i low = _mm512_sub_epi32(whole, _mm512_slli_epi32(high, 8));
    _mm_store_si128(reinterpret_cast<__m128i*>(bytes + d), _mm512_cvtepi32_epi8(high));
    _mm_store_si128(reinterpret_cast<__m128i*>(bytes + 4 * kFours + d), _mm512_cvtepi32_epi8(low));
    sums[0] = _mm512_add_epi32(sums[0], high);
    sums[1] = _mm512_add_epi32(sums[1], low);
  }
  for (int part = 0; part < 2; ++part)
    s.start[which][lane * 2 + part] = -128 * _mm512_reduce_add_epi32(sums[part]);
}

ByteState begin(const AttentionTask& t) {
  Carver carver(t.scratch);
  const bool second = t.needs_second_query();
  ByteState s = layout(t.args->head_dim(), t.lanes(), second, carver);
  for (int which = 0; which < (second ? 2 : 1); ++which) {
    for (int64_t l = 0; l < s.n_lanes; ++l) {
      round_query(t.query(which != 0, l / t.n_heads, l % t.n_heads), t.score_scale(), s.head_dim, l, which,
                  s);
    }
  }
  std::fill_n(s.sums, s.n_lanes * s.n_chunks * 64, 0.0F);
  std::fill_n(s.top, s.n_lanes, kLowest);
  std::fill_n(s.total, s.n_lanes, 0.0F);
  return s;
}

// Keys [key, key + n) of a span, for one kv head.
struct ByteTile {
  const KeySpan* span = nullptr;
  const int8_t* k = nullptr;  // row `key`
  const int8_t* v = nullptr;
  const float* k_scales = nullptr;
  const float* v_scales = nullptr;
  int64_t stride = 0, key = 0, n = 0;
};

// Rows that will be needed soon, prefetched two lines at a time between products: in a burst, the fetches
// would wait for each other.
struct Ahead {
  const int8_t* at = nullptr;  // null: nothing to fetch
  HWY_INLINE void step() {
    __builtin_prefetch(at);
    __builtin_prefetch(at + kCacheLine);
    at += 2 * kCacheLine;
  }
};

// Rows [first, first + n) of keys or values of a tile of `limit` rows. Rows with gaps are fetched at once.
Ahead rows_ahead(const int8_t* rows, int64_t stride, int64_t bytes, int64_t first, int64_t n, int64_t limit) {
  if (first >= limit) return {};
  if (stride == bytes) return {rows + first * stride};
  for (int64_t j = first; j < std::min(first + n, limit); ++j) prefetch_row(rows + j * stride, bytes);
  return {};
}

// sums += the dot products of four unsigned and four signed bytes. (GCC 12 copies the sums of its intrinsic
// from register to register in loops.)
inline SEPLLM_ALWAYS void add_dots(__m512i& sums, __m512i of_unsigned, __m512i of_signed) {
  __asm__("vpdpbusd %2, %1, %0" : "+v"(sums) : "v"(of_unsigned), "v"(of_signed));
}

inline SEPLLM_ALWAYS __m512i load_line(const void* at) { return _mm512_load_si512(at); }
inline SEPLLM_ALWAYS void store_line(void* at, __m512i v) { _mm512_store_si512(at, v); }

// The bytes of chunk c of a row that exist.
inline SEPLLM_ALWAYS __mmask64 bytes_of_chunk(const ByteState& s, int64_t c) {
  const int64_t n = s.head_dim - 64 * c;
  return n >= 64 ? ~__mmask64{0} : n <= 0 ? 0 : (__mmask64{1} << n) - 1;
}

// Transposes 16 rows of 64 bytes, four bytes at a time, into lines `to`, `to` + 128 bytes, ...: line i has
// bytes [4 i, 4 i + 4) of each row. Keys become k + 128. Rows beyond the last repeat it.
template <bool kAll>
inline SEPLLM_ALWAYS void pack_16_keys(const int8_t* rows, int64_t stride, int64_t n, __mmask64 mask,
                                       int8_t* to) {
  __m512i a[16], b[16];
  const __m512i flip = _mm512_set1_epi8(-128);
#pragma GCC unroll 16
  for (int64_t j = 0; j < 16; ++j) {
    a[j] = _mm512_xor_si512(kAll ? _mm512_loadu_si512(rows) : _mm512_maskz_loadu_epi8(mask, rows), flip);
    if (kAll || j + 1 < n) rows += stride;
  }
#pragma GCC unroll 8
  for (int i = 0; i < 16; i += 2) {
    b[i] = _mm512_unpacklo_epi32(a[i], a[i + 1]);
    b[i + 1] = _mm512_unpackhi_epi32(a[i], a[i + 1]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4) {
    a[i] = _mm512_unpacklo_epi64(b[i], b[i + 2]);
    a[i + 1] = _mm512_unpackhi_epi64(b[i], b[i + 2]);
    a[i + 2] = _mm512_unpacklo_epi64(b[i + 1], b[i + 3]);
    a[i + 3] = _mm512_unpackhi_epi64(b[i + 1], b[i + 3]);
  }
  // a[i + m], 128-bit lane x: bytes 4 (4 x + m) of rows i .. i + 3.
#pragma GCC unroll 4
  for (int m = 0; m < 4; ++m) {
    const __m512i even01 = _mm512_shuffle_i32x4(a[m], a[4 + m], 0x88);
    const __m512i odd01 = _mm512_shuffle_i32x4(a[m], a[4 + m], 0xDD);
    const __m512i even23 = _mm512_shuffle_i32x4(a[8 + m], a[12 + m], 0x88);
    const __m512i odd23 = _mm512_shuffle_i32x4(a[8 + m], a[12 + m], 0xDD);
    store_line(to + 128 * m, _mm512_shuffle_i32x4(even01, even23, 0x88));
    store_line(to + 128 * (4 + m), _mm512_shuffle_i32x4(odd01, odd23, 0x88));
    store_line(to + 128 * (8 + m), _mm512_shuffle_i32x4(even01, even23, 0xDD));
    store_line(to + 128 * (12 + m), _mm512_shuffle_i32x4(odd01, odd23, 0xDD));
  }
}

void pack_keys(const ByteState& s, const int8_t* rows, int64_t stride, int64_t n) {
  for (int64_t c = 0; c < s.n_chunks; ++c) {
    int8_t* to = s.packed + c * 16 * 128;
    const __mmask64 mask = bytes_of_chunk(s, c);
    if (n == kScoreKeys && mask == ~__mmask64{0}) {
      pack_16_keys<true>(rows + 64 * c, stride, 16, mask, to);
      pack_16_keys<true>(rows + 16 * stride + 64 * c, stride, 16, mask, to + 64);
    } else {
      pack_16_keys<false>(rows + 64 * c, stride, n, mask, to);
      if (n > 16) pack_16_keys<false>(rows + 16 * stride + 64 * c, stride, n - 16, mask, to + 64);
    }
  }
}

// The scores of lanes [lane, lane + kN) and the packed keys, without bias.
template <int kN, bool kFetch>
void score_lanes(const ByteState& s, int which, int64_t lane, const __m512 (&scales)[2], Ahead ahead,
                 float* scores) {
  const int32_t* query = s.query[which] + lane * 2 * kFours;
  __m512i dots[kN][2][2];  // [lane][part][keys]
#pragma GCC unroll 4
  for (int l = 0; l < kN; ++l) {
#pragma GCC unroll 2
    for (int part = 0; part < 2; ++part) {
      dots[l][part][0] = dots[l][part][1] = _mm512_set1_epi32(s.start[which][(lane + l) * 2 + part]);
    }
  }
  for (int64_t i = 0; i < s.n_fours; ++i) {
    if (kFetch) ahead.step();
    const __m512i k0 = load_line(s.packed + 128 * i), k1 = load_line(s.packed + 128 * i + 64);
#pragma GCC unroll 4
    for (int l = 0; l < kN; ++l) {
#pragma GCC unroll 2
      for (int part = 0; part < 2; ++part) {
        const __m512i q = _mm512_set1_epi32(query[(2 * l + part) * kFours + i]);
        add_dots(dots[l][part][0], k0, q);
        add_dots(dots[l][part][1], k1, q);
      }
    }
  }
#pragma GCC unroll 4
  for (int l = 0; l < kN; ++l) {
    const __m512 step = _mm512_set1_ps(s.step[which][lane + l]);
#pragma GCC unroll 2
    for (int g = 0; g < 2; ++g) {
      const __m512i dot = _mm512_add_epi32(_mm512_slli_epi32(dots[l][0][g], 8), dots[l][1][g]);
      const __m512 score = _mm512_mul_ps(_mm512_cvtepi32_ps(dot), _mm512_mul_ps(step, scales[g]));
      _mm512_store_ps(scores + l * kByteTile + 16 * g, score);
    }
  }
}

// Calls fn<n>(lane) for all lanes, kLanes or fewer at a time.
template <typename Fn>
inline SEPLLM_ALWAYS void for_lanes(int64_t n_lanes, const Fn& fn) {
  int64_t lane = 0;
  for (; lane + kLanes <= n_lanes; lane += kLanes) fn.template operator()<kLanes>(lane);
  switch (n_lanes - lane) {
    case 3:
      return fn.template operator()<3>(lane);
    case 2:
      return fn.template operator()<2>(lane);
    case 1:
      return fn.template operator()<1>(lane);
    default:
      return;
  }
}

void score_tile(const ByteState& s, const ByteTile& tile) {
  const int which = tile.span->second_query ? 1 : 0;
  for (int64_t j = 0; j < tile.n; j += kScoreKeys) {
    const Ahead ahead = rows_ahead(tile.v, tile.stride, s.head_dim, j, kScoreKeys, tile.n);
    const int64_t n = std::min(kScoreKeys, tile.n - j);
    pack_keys(s, tile.k + j * tile.stride, tile.stride, n);
    const uint32_t exist = n >= 32 ? ~0U : (1U << n) - 1;
    const __m512 factors[2] = {
        _mm512_maskz_loadu_ps(static_cast<__mmask16>(exist), tile.k_scales + j),
        _mm512_maskz_loadu_ps(static_cast<__mmask16>(exist >> 16), tile.k_scales + j + 16)};
    for_lanes(s.n_lanes, [&]<int kN>(int64_t lane) SEPLLM_ALWAYS {
      float* scores = s.scores + lane * kByteTile + j;
      lane == 0 && ahead.at != nullptr ? score_lanes<kN, true>(s, which, lane, factors, ahead, scores)
                                       : score_lanes<kN, false>(s, which, lane, factors, ahead, scores);
    });
  }
}

// 2^x for x <= 1, relative error about 1e-7; 0 or below 2^-125 for x <= -126. NaN stays NaN.
inline SEPLLM_ALWAYS __m512 exp2_of(__m512 x) {
  const __m512 f = _mm512_reduce_ps(x, 1);    // x - floor(x)
  __m512 p = _mm512_set1_ps(0.00187757668F);  // minimax on [0, 1]
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0.00898934014F));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0.0558263179F));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0.240153617F));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0.693153073F));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0.999999925F));
  return _mm512_scalef_ps(p, x);
}

// Which of keys [j, j + 16) are in [lo, hi).
inline SEPLLM_ALWAYS __mmask16 in_range(int64_t j, int64_t lo, int64_t hi) {
  const auto upto = [](int64_t n) -> uint32_t { return n <= 0 ? 0 : n >= 16 ? 0xFFFFU : (1U << n) - 1; };
  return static_cast<__mmask16>(upto(hi - j) & ~upto(lo - j));
}

void add_alibi(const ByteState& s, const AttentionTask& t, const ByteTile& tile, int64_t lane) {
  const bool second = tile.span->second_query;
  const __m512 slope = _mm512_set1_ps(t.slope(lane / t.n_heads, lane % t.n_heads));
  const __m512 own =
      _mm512_set1_ps(static_cast<float>(t.place(second, lane / t.n_heads) - t.place(second, 0)));
  for (int64_t j = 0; j < tile.n; j += 16) {
    float* at = s.scores + lane * kByteTile + j;
    const __m512 away = _mm512_sub_ps(_mm512_load_ps(s.distance + j), own);
    _mm512_store_ps(at, _mm512_fmadd_ps(slope, away, _mm512_load_ps(at)));
  }
}

// Stores the high and the low bytes of 64 integers below 2^16.
inline SEPLLM_ALWAYS void store_bytes(const __m512i (&whole)[4], uint8_t* to) {
  // Packing works within 128-bit lanes: there, integer m of four belongs to vector m.
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  const __m512i words01 = _mm512_packus_epi32(whole[0], whole[1]);
  const __m512i words23 = _mm512_packus_epi32(whole[2], whole[3]);
  const __m512i low = _mm512_set1_epi16(255);
  store_line(to, _mm512_permutexvar_epi32(order, _mm512_packus_epi16(_mm512_srli_epi16(words01, 8),
                                                                     _mm512_srli_epi16(words23, 8))));
  store_line(to + kByteTile,
             _mm512_permutexvar_epi32(
                 order, _mm512_packus_epi16(_mm512_and_si512(words01, low), _mm512_and_si512(words23, low))));
}

// The weights of a block of keys, of which the lane sees [lo, hi) (kAll: all), relative to the score `top`.
// Returns their sum before they are multiplied by the values' scales.
template <bool kAll>
inline SEPLLM_ALWAYS __m512 weights_of_block(const float* scores, const float* scales, int64_t lo, int64_t hi,
                                             __m512 top, uint8_t* weights, float* step) {
  __m512 w[4], sum = _mm512_setzero_ps();
  __m512i most = _mm512_setzero_si512();
#pragma GCC unroll 4
  for (int g = 0; g < 4; ++g) {
    const __mmask16 seen = kAll ? static_cast<__mmask16>(0xFFFF) : in_range(16 * g, lo, hi);
    const __m512 p = exp2_of(_mm512_sub_ps(_mm512_maskz_load_ps(seen, scores + 16 * g), top));
    sum = _mm512_mask_add_ps(sum, seen, sum, p);
    w[g] = _mm512_maskz_mul_ps(seen, p, _mm512_maskz_loadu_ps(seen, scales + 16 * g));
    // As integers, numbers that are not negative have the same order, and NaN is the largest.
    most = _mm512_max_epu32(most, _mm512_castps_si512(w[g]));
  }
  const float largest = std::bit_cast<float>(_mm512_reduce_max_epu32(most));
  // (Where all weights are zero, they stay it; where one is NaN, the step makes the result NaN.)
  const __m512 factor = _mm512_set1_ps(static_cast<float>(kByteWeightMost) / std::max(largest, 1e-30F));
  *step = largest * (1.0F / static_cast<float>(kByteWeightMost));
  __m512i whole[4];
#pragma GCC unroll 4
  for (int g = 0; g < 4; ++g) whole[g] = _mm512_cvtps_epi32(_mm512_mul_ps(w[g], factor));
  store_bytes(whole, weights);
  return sum;
}

// Turns the scores of a lane, which sees keys [lo, hi) of the tile, into weights relative to the largest so
// far, and rescales what was summed before.
void weights_of(const ByteState& s, const ByteTile& tile, int64_t lane, int64_t lo, int64_t hi) {
  const float* scores = s.scores + lane * kByteTile;
  const bool all = lo <= 0 && hi == kByteTile;
  __m512 top = _mm512_set1_ps(s.top[lane]);
  for (int64_t j = 0; j < tile.n; j += 16) {
    const __mmask16 seen = all ? static_cast<__mmask16>(0xFFFF) : in_range(j, lo, hi);
    top = _mm512_mask_max_ps(top, seen, top, _mm512_load_ps(scores + j));
  }
  const float new_top = _mm512_reduce_max_ps(top);
  const __m512 shift = _mm512_set1_ps(new_top);
  __m512 total = _mm512_setzero_ps();
  for (int64_t j = 0; j < tile.n; j += kByteBlock) {
    const float* scales = tile.v_scales + j;
    uint8_t* weights = s.weights + lane * 2 * kByteTile + j;
    float* step = s.steps + lane * (kByteTile / kByteBlock) + j / kByteBlock;
    total = _mm512_add_ps(
        total, all ? weights_of_block<true>(scores + j, scales, 0, kByteBlock, shift, weights, step)
                   : weights_of_block<false>(scores + j, scales, lo - j, hi - j, shift, weights, step));
  }
  const __m512 factor = exp2_of(_mm512_set1_ps(s.top[lane] - new_top));
  s.total[lane] = s.total[lane] * _mm512_cvtss_f32(factor) + _mm512_reduce_add_ps(total);
  s.top[lane] = new_top;
  float* sums = s.sums + lane * s.n_chunks * 64;
  for (int64_t d = 0; d < s.n_chunks * 64; d += 16)
    _mm512_store_ps(sums + d, _mm512_mul_ps(_mm512_load_ps(sums + d), factor));
}

// Values of four keys: line x of a chunk has, in 128-bit lane y, elements 16 y + 4 x .. + 3 of all four.
inline SEPLLM_ALWAYS void pack_4_values(__m512i r0, __m512i r1, __m512i r2, __m512i r3, int8_t* to) {
  const __m512i low01 = _mm512_unpacklo_epi8(r0, r1), up01 = _mm512_unpackhi_epi8(r0, r1);
  const __m512i low23 = _mm512_unpacklo_epi8(r2, r3), up23 = _mm512_unpackhi_epi8(r2, r3);
  store_line(to, _mm512_unpacklo_epi16(low01, low23));
  store_line(to + 64, _mm512_unpackhi_epi16(low01, low23));
  store_line(to + 128, _mm512_unpacklo_epi16(up01, up23));
  store_line(to + 192, _mm512_unpackhi_epi16(up01, up23));
}

// Rows beyond the last of n repeat it; their weights are zero.
void pack_values(const ByteState& s, const int8_t* rows, int64_t stride, int64_t n) {
  int8_t* to = s.packed;
  const int64_t whole = s.head_dim % 64 == 0 ? n / 4 * 4 : 0;
  for (int64_t j = 0; j < whole; j += 4, rows += 4 * stride) {
    for (int64_t d = 0; d < s.head_dim; d += 64, to += 256) {
      const int8_t* at = rows + d;
      pack_4_values(_mm512_loadu_si512(at), _mm512_loadu_si512(at + stride),
                    _mm512_loadu_si512(at + 2 * stride), _mm512_loadu_si512(at + 3 * stride), to);
    }
  }
  for (int64_t j = whole; j < n; j += 4, rows += 4 * stride) {
    const int64_t last = n - 1 - j;
    for (int64_t c = 0; c < s.n_chunks; ++c, to += 256) {
      const auto row = [&](int64_t i) SEPLLM_ALWAYS {
        return _mm512_maskz_loadu_epi8(bytes_of_chunk(s, c), rows + std::min(i, last) * stride + 64 * c);
      };
      pack_4_values(row(0), row(1), row(2), row(3), to);
    }
  }
}

// sums += weights . packed values, for lanes [lane, lane + kN) and n_fours times four keys from key j on.
template <int kN, bool kFetch>
void add_values(const ByteState& s, int64_t lane, int64_t j, int64_t n_fours, Ahead ahead) {
  const uint8_t* weights = s.weights + lane * 2 * kByteTile + j;
  for (int64_t pair = 0; pair < 2 * s.n_chunks; ++pair) {  // of lines
    __m512i dots[kN][2][2];                                // [lane][part][line]
#pragma GCC unroll 4
    for (int l = 0; l < kN; ++l) {
#pragma GCC unroll 2
      for (int part = 0; part < 2; ++part) dots[l][part][0] = dots[l][part][1] = _mm512_setzero_si512();
    }
    const int8_t* at = s.packed + 128 * pair;
    for (int64_t i = 0; i < n_fours; ++i, at += 256 * s.n_chunks) {
      if (kFetch) ahead.step();
      const __m512i v0 = load_line(at), v1 = load_line(at + 64);
#pragma GCC unroll 4
      for (int l = 0; l < kN; ++l) {
#pragma GCC unroll 2
        for (int part = 0; part < 2; ++part) {
          int32_t four;
          __builtin_memcpy(&four, weights + (2 * l + part) * kByteTile + 4 * i, sizeof(four));
          const __m512i w = _mm512_set1_epi32(four);
          add_dots(dots[l][part][0], w, v0);
          add_dots(dots[l][part][1], w, v1);
        }
      }
    }
#pragma GCC unroll 4
    for (int l = 0; l < kN; ++l) {
      const __m512 step = _mm512_set1_ps(s.steps[(lane + l) * (kByteTile / kByteBlock) + j / kByteBlock]);
      float* sums = s.sums + (lane + l) * s.n_chunks * 64 + 32 * pair;
#pragma GCC unroll 2
      for (int x = 0; x < 2; ++x) {
        const __m512i dot = _mm512_add_epi32(_mm512_slli_epi32(dots[l][0][x], 8), dots[l][1][x]);
        _mm512_store_ps(sums + 16 * x,
                        _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot), step, _mm512_load_ps(sums + 16 * x)));
      }
    }
  }
}

void value_tile(const ByteState& s, const ByteTile& tile, const ByteTile& next) {
  for (int64_t j = 0; j < tile.n; j += kByteBlock) {
    const Ahead ahead = rows_ahead(next.k, next.stride, s.head_dim, j, kByteBlock, next.n);
    const int64_t n = std::min(kByteBlock, tile.n - j), n_fours = (n + 3) / 4;
    pack_values(s, tile.v + j * tile.stride, tile.stride, n);
    for_lanes(s.n_lanes, [&]<int kN>(int64_t lane) SEPLLM_ALWAYS {
      lane == 0 && ahead.at != nullptr ? add_values<kN, true>(s, lane, j, n_fours, ahead)
                                       : add_values<kN, false>(s, lane, j, n_fours, ahead);
    });
  }
}

// Processes one tile of keys for all lanes; `next` will be read after it.
void process(const AttentionTask& t, const ByteState& s, const ByteTile& tile, const ByteTile& next) {
  const KeySpan& span = *tile.span;
  const bool alibi = t.args->alibi_slopes != nullptr;
  if (alibi) {
    const int64_t place = t.place(span.second_query, 0);
    for (int64_t j = 0; j < tile.n; ++j)
      s.distance[j] = static_cast<float>(span.encoded_at(tile.key + j) - place);
  }
  score_tile(s, tile);
  for (int64_t l = 0; l < s.n_lanes; ++l) {
    if (alibi) add_alibi(s, t, tile, l);
    const auto [lo, hi] = span.range(t.position(l / t.n_heads));
    weights_of(s, tile, l, lo - tile.key, std::min(hi - tile.key, tile.n));
  }
  value_tile(s, tile, next);
}

// Calls fn(tile) for all tiles of a task, until it returns false.
template <typename Fn>
void for_each_tile(const AttentionTask& t, const Fn& fn) {
  for_each_range(t, [&](const KeySpan& span, int64_t lo, int64_t hi) {
    for (int64_t key = lo; key < hi; key += kByteTile) {
      const int64_t at = t.kv_head() * span.head_stride + key * span.slot_stride;
      const int64_t scale = t.kv_head() * span.scale_head_stride + key;
      fn(ByteTile{&span, static_cast<const int8_t*>(span.k) + at, static_cast<const int8_t*>(span.v) + at,
                  span.k_scales + scale, span.v_scales + scale, span.slot_stride, key,
                  std::min(kByteTile, hi - key)});
    }
  });
}

void finish(const AttentionTask& t, const ByteState& s) {
  for (int64_t l = 0; l < s.n_lanes; ++l) {
    const int64_t r = l / t.n_heads, h = l % t.n_heads;
    const float* sums = s.sums + l * s.n_chunks * 64;
    float* to = t.partial != nullptr ? t.partial_at(r, h) : t.output(r, h);
    const float factor = t.partial != nullptr ? 1.0F : 1.0F / s.total[l];
    for (int64_t d = 0; d < s.head_dim; ++d) {
      // Element 16 y + 4 x + i of a chunk is at 16 x + 4 y + i.
      const int64_t at = d / 64 * 64 + d % 16 / 4 * 16 + d % 64 / 16 * 4 + d % 4;
      to[d] = sums[at] * factor;
    }
    if (t.partial == nullptr) continue;
    to[s.head_dim] = s.top[l];
    to[s.head_dim + 1] = s.total[l];
  }
}

}  // namespace

bool has_attention_bytes() { return (cpu_features() & kVnni) != 0; }

void attention_bytes(const AttentionTask& t) {
  SEPLLM_CHECK(t.sequence->kv_type == DType::kI8 && t.args->head_dim() <= kByteMostHeadDim);
  SEPLLM_CHECK(t.args->log_sum_exp.data == nullptr && !t.stream_output);
  const ByteState s = begin(t);
  ByteTile tile;  // processed when the next one is known
  for_each_tile(t, [&](const ByteTile& next) {
    if (tile.n > 0) process(t, s, tile, next);
    tile = next;
  });
  ByteTile next;
  if (t.next != nullptr && t.next->sequence->kv_type == DType::kI8) {
    for_each_tile(*t.next, [&](const ByteTile& of_next) {
      if (next.n == 0) next = of_next;
    });
  }
  if (tile.n > 0) process(t, s, tile, next);
  finish(t, s);
}

int64_t attention_bytes_scratch(int64_t head_dim, int64_t lanes) {
  Carver carver;
  layout(head_dim, lanes, /*second_query=*/true, carver);
  return carver.used();
}

}  // namespace sepllm
HWY_POP_ATTRIBUTES

#else  // not x86-64

namespace sepllm {
bool has_attention_bytes() { return false; }
void attention_bytes(const AttentionTask&) { SEPLLM_CHECK(false); }
int64_t attention_bytes_scratch(int64_t, int64_t) { return 0; }
}  // namespace sepllm

#endif
