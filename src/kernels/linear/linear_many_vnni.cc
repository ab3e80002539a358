// The tile product with VNNI, and the functions around it that all AVX-512 kernels share.
#include <algorithm>
#include <cstdint>

#include "base/check.h"
#include "kernels/formats/panels.h"
#include "kernels/linear/linear_many_blocks.h"

#if defined(__x86_64__)
#include <hwy/base.h>
#include <immintrin.h>

#include <cstring>

HWY_PUSH_ATTRIBUTES("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c,prfchw")
#include "kernels/linear/panel_vnni-inl.h"

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

// The values of a pair of blocks of one panel, signed or as they are stored.
template <typename Panel>
void unpack_values(const char* pair, bool as_signed, int64_t panel, WeightsRecord* to) {
  constexpr PanelForm kForm = Panel::kForm;
  const __m512i zero = _mm512_set1_epi8(static_cast<char>(as_signed ? kForm.zero : 0));
  const __m512i low = _mm512_set1_epi8(15);
#pragma GCC unroll 8
  for (int j = 0; j < 8; ++j) {
    __m512i first = load_line(pair + 64 * (kForm.group_line(0) + j));
    __m512i second = load_line(pair + 64 * (kForm.group_line(1) + j));
    if constexpr (kForm.low_bits() == 4) {
      first = _mm512_and_si512(first, low);
      second = _mm512_and_si512(_mm512_srli_epi16(second, 4), low);
    }
    if constexpr (kForm.high_bits() > 0) {
      first = with_high_bits<Panel>(first, pair, 0, j);
      second = with_high_bits<Panel>(second, pair, 1, j);
    }
    _mm512_store_si512(to[0].values[panel][j], _mm512_sub_epi8(first, zero));
    _mm512_store_si512(to[1].values[panel][j], _mm512_sub_epi8(second, zero));
  }
}

// `n` blocks of one panel.
template <typename Panel>
void unpack_units(const char* unit, int64_t n, bool as_signed, int64_t panel, WeightsRecord* to) {
  constexpr PanelForm kForm = Panel::kForm;
  for (int64_t first = 0; first < n; first += kForm.groups(), unit += kForm.unit_bytes()) {
    const UnitScales<Panel> scales(unit);
    for (int k = 0; k < kForm.pairs(); ++k, to += 2) {
      unpack_values<Panel>(unit + kForm.pair_at(k), as_signed, panel, to);
      for (int b = 0; b < 2; ++b) {
        const __m512 scale = scales.scale(k, b, 0);
        __m512 second = _mm512_mul_ps(scale, _mm512_set1_ps(-kFloatBias));
        if constexpr (kForm.has_minima()) second = scales.minimum(k, b);
        if constexpr (kForm.parts() == 2) second = scales.scale(k, b, 1);
        _mm512_store_ps(to[b].outputs[panel].scale, scale);
        _mm512_store_ps(to[b].outputs[panel].second, second);
      }
    }
  }
}

}  // namespace

void run_tiles_vnni(const TileRun& run) {
  if (run.parts == 2) return run_tiles_of<HalvesRecord, false>(run);
  if (run.minima) return run_tiles_of<RowsRecord, true>(run);
  run_tiles_of<RowsRecord, false>(run);
}

void unpack_panels(DType type, const char* const (&panels)[kTilePanels], int64_t first, int64_t n,
                   bool as_signed, WeightsRecord* to) {
  for (int64_t panel = 0; panel < kTilePanels; ++panel) {
    if (panels[panel] == nullptr) {
      for (int64_t b = 0; b < n; ++b) {
        std::memset(to[b].values[panel], 0, sizeof(to[b].values[panel]));
        std::memset(&to[b].outputs[panel], 0, sizeof(to[b].outputs[panel]));
      }
      continue;
    }
    const PanelForm& form = format_of(type).panel;
    const char* unit = panels[panel] + first / form.groups() * form.unit_bytes();
    with_panel(type, [&](auto tag) { unpack_units<decltype(tag)>(unit, n, as_signed, panel, to); });
  }
}

void finish_tiles(const LinearPart& part, int64_t row, int64_t n_rows, int64_t out, const float* sums) {
  // Rows of y lie kilobytes apart and far from this core, so their lines are requested before the stores.
  constexpr int64_t kAhead = 16;
  for (int64_t r = -kAhead; r < n_rows; ++r) {
    if (r + kAhead < n_rows) {
      const float* y = part.y.row(row + r + kAhead) + out;
      __builtin_prefetch(y, 1);
      __builtin_prefetch(y + std::min<int64_t>(16, part.w->n_out - out - 1), 1);
    }
    if (r < 0) continue;
    const float* of_row = sums + r / kTileRows * kTileSums + r % kTileRows * 16;
    for (int64_t p = 0; p < kTilePanels; ++p) {
      const int64_t o = out + 16 * p;
      const int64_t n = std::clamp<int64_t>(part.w->n_out - o, 0, 16);
      if (n == 0) break;
      const auto mask = static_cast<__mmask16>((1U << n) - 1U);
      float* y = part.y.row(row + r) + o;
      __m512 sum = _mm512_load_ps(of_row + p * kTileRows * 16);
      if (part.bias != nullptr) sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(mask, part.bias + o));
      if (part.accumulate) sum = _mm512_add_ps(_mm512_maskz_loadu_ps(mask, y), sum);
      _mm512_mask_storeu_ps(y, mask, sum);
    }
  }
}

}  // namespace sepllm
HWY_POP_ATTRIBUTES

#else  // not x86-64

namespace sepllm {
void run_tiles_vnni(const TileRun&) { SEPLLM_CHECK(false); }
void unpack_panels(DType, const char* const (&)[kTilePanels], int64_t, int64_t, bool, WeightsRecord*) {
  SEPLLM_CHECK(false);
}
void finish_tiles(const LinearPart&, int64_t, int64_t, int64_t, const float*) { SEPLLM_CHECK(false); }
}  // namespace sepllm

#endif
