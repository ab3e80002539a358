// The tile product with VNNI.
#include <cstdint>

#include "base/check.h"
#include "kernels/linear/linear_many_blocks.h"

#if defined(__x86_64__)
#include <hwy/base.h>
#include <immintrin.h>

#include <cstring>

HWY_PUSH_ATTRIBUTES("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")
namespace sepllm {
namespace {

HWY_INLINE __m512i four_values(const int8_t* at) {
  int32_t four;
  std::memcpy(&four, at, sizeof(four));
  return _mm512_set1_epi32(four);
}

// sum += scale_w * dot * scale_x
HWY_INLINE __m512 add_block(__m512i dot, __m512 scale_x, __m512 scale_w, __m512 sum) {
  return _mm512_fmadd_ps(_mm512_mul_ps(scale_w, _mm512_cvtepi32_ps(dot)), scale_x, sum);
}

// Adds a block of rows [kFirst, kFirst + kRows) of a tile: lines [kBegin, kEnd) of the weights, with a scale
// of their own, and with sums that begin with starts[row].
template <int kFirst, int kRows, int kBegin, int kEnd, bool kStarts>
HWY_INLINE void add_lines(const RowsRecord* x, const int32_t* starts, const WeightsRecord* w,
                          const float* scales0, const float* scales1, __m512 (&sums)[kTilePanels][kRows]) {
  __m512i dots[kTilePanels][kRows];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
    if constexpr (kStarts) {
      dots[0][r] = dots[1][r] = _mm512_set1_epi32(starts[kFirst + r]);
    } else {
      dots[0][r] = dots[1][r] = _mm512_setzero_si512();
    }
  }
#pragma GCC unroll 8
  for (int j = kBegin; j < kEnd; ++j) {
    const __m512i w0 = _mm512_load_si512(w->values[0][j]), w1 = _mm512_load_si512(w->values[1][j]);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const __m512i four = four_values(x->values[kFirst + r] + 4 * j);
      dots[0][r] = _mm512_dpbusd_epi32(dots[0][r], w0, four);
      dots[1][r] = _mm512_dpbusd_epi32(dots[1][r], w1, four);
    }
  }
  const __m512 scale0 = _mm512_load_ps(scales0), scale1 = _mm512_load_ps(scales1);
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
    const __m512 scale_x = _mm512_set1_ps(x->scales[kFirst + r]);
    sums[0][r] = add_block(dots[0][r], scale_x, scale0, sums[0][r]);
    sums[1][r] = add_block(dots[1][r], scale_x, scale1, sums[1][r]);
  }
}

template <int kFirst, int kRows, bool kMinima>
HWY_INLINE void add_block_of_rows(const RowsRecord* x, const WeightsRecord* w,
                                  __m512 (&sums)[kTilePanels][kRows]) {
  add_lines<kFirst, kRows, 0, 8, !kMinima>(x, x->starts, w, w->outputs[0].scale, w->outputs[1].scale, sums);
  if constexpr (kMinima) {
    const __m512 minimum0 = _mm512_load_ps(w->outputs[0].second);
    const __m512 minimum1 = _mm512_load_ps(w->outputs[1].second);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const __m512 sum_x = _mm512_set1_ps(x->sums[kFirst + r]);
      sums[0][r] = _mm512_fmadd_ps(minimum0, sum_x, sums[0][r]);
      sums[1][r] = _mm512_fmadd_ps(minimum1, sum_x, sums[1][r]);
    }
  }
}
template <int kFirst, int kRows, bool kMinima>
HWY_INLINE void add_block_of_rows(const HalvesRecord* x, const WeightsRecord* w,
                                  __m512 (&sums)[kTilePanels][kRows]) {
  add_lines<kFirst, kRows, 0, 4, true>(x, x->starts, w, w->outputs[0].scale, w->outputs[1].scale, sums);
  add_lines<kFirst, kRows, 4, 8, true>(x, x->second_starts, w, w->outputs[0].second, w->outputs[1].second,
                                       sums);
}

// All blocks of rows [kFirst, kFirst + kRows) of a tile.
template <int kFirst, int kRows, bool kMinima, typename Record>
HWY_INLINE void run_rows(const Record* x, const WeightsRecord* w, int64_t n_blocks, bool first, float* to) {
  __m512 sums[kTilePanels][kRows];
#pragma GCC unroll 2
  for (int p = 0; p < kTilePanels; ++p) {
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r)
      sums[p][r] = first ? _mm512_setzero_ps() : _mm512_load_ps(to + (p * kTileRows + kFirst + r) * 16);
  }
  for (int64_t k = 0; k < n_blocks; ++k, ++x, ++w) add_block_of_rows<kFirst, kRows, kMinima>(x, w, sums);
#pragma GCC unroll 2
  for (int p = 0; p < kTilePanels; ++p) {
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) _mm512_store_ps(to + (p * kTileRows + kFirst + r) * 16, sums[p][r]);
  }
}

template <typename Record, bool kMinima>
void run_tiles_of(const TileRun& run) {
  constexpr int kHalf = kTileRows / 2;
  const auto* x = static_cast<const Record*>(run.rows);
  const char* ahead0 = run.ahead[0];
  const char* ahead1 = run.ahead[1];
  float* to = run.sums;
  for (int64_t tile = 0; tile < run.n_tiles; ++tile, x += run.n_blocks, to += kTileSums) {
    for (int64_t line = 0; line < run.ahead_lines; ++line, ahead0 += 64, ahead1 += 64) {
      _mm_prefetch(ahead0, _MM_HINT_T1);
      _mm_prefetch(ahead1, _MM_HINT_T1);
    }
    run_rows<0, kHalf, kMinima>(x, run.weights, run.n_blocks, run.first, to);
    run_rows<kHalf, kHalf, kMinima>(x, run.weights, run.n_blocks, run.first, to);
  }
}

}  // namespace

void run_tiles_vnni(const TileRun& run) {
  const PanelForm& form = format_of(run.type).panel;
  if (form.parts() == 2) return run_tiles_of<HalvesRecord, false>(run);
  if (form.has_minima()) return run_tiles_of<RowsRecord, true>(run);
  run_tiles_of<RowsRecord, false>(run);
}

}  // namespace sepllm
HWY_POP_ATTRIBUTES

#else  // not x86-64

namespace sepllm {
void run_tiles_vnni(const TileRun&) { SEPLLM_CHECK(false); }
}  // namespace sepllm

#endif
