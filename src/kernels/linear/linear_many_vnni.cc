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
namespace sepllm {
namespace {

HWY_INLINE __m512i four_values(const int8_t* at) {
  int32_t four;
  std::memcpy(&four, at, sizeof(four));
  return _mm512_set1_epi32(four);
}

// Rows [kFirst, kFirst + kRows) of a tile.
template <int kFirst, int kRows>
HWY_INLINE void run_rows(const RowsRecord* x, const WeightsRecord* w, int64_t n_blocks, bool first,
                         float* to) {
  __m512 sums[kTilePanels][kRows];
#pragma GCC unroll 2
  for (int p = 0; p < kTilePanels; ++p) {
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r)
      sums[p][r] = first ? _mm512_setzero_ps() : _mm512_load_ps(to + (p * kTileRows + kFirst + r) * 16);
  }
  for (int64_t k = 0; k < n_blocks; ++k, ++x, ++w) {
    __m512i dots[kTilePanels][kRows];
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) dots[0][r] = dots[1][r] = _mm512_set1_epi32(x->starts[kFirst + r]);
#pragma GCC unroll 8
    for (int j = 0; j < 8; ++j) {
      const __m512i w0 = _mm512_load_si512(w->values[0][j]), w1 = _mm512_load_si512(w->values[1][j]);
#pragma GCC unroll 16
      for (int r = 0; r < kRows; ++r) {
        const __m512i four = four_values(x->values[kFirst + r] + 4 * j);
        dots[0][r] = _mm512_dpbusd_epi32(dots[0][r], w0, four);
        dots[1][r] = _mm512_dpbusd_epi32(dots[1][r], w1, four);
      }
    }
    const __m512 scale0 = _mm512_load_ps(w->outputs[0].scale), scale1 = _mm512_load_ps(w->outputs[1].scale);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const __m512 scale_x = _mm512_set1_ps(x->scales[kFirst + r]);
      sums[0][r] =
          _mm512_fmadd_ps(_mm512_mul_ps(scale0, _mm512_cvtepi32_ps(dots[0][r])), scale_x, sums[0][r]);
      sums[1][r] =
          _mm512_fmadd_ps(_mm512_mul_ps(scale1, _mm512_cvtepi32_ps(dots[1][r])), scale_x, sums[1][r]);
    }
  }
#pragma GCC unroll 2
  for (int p = 0; p < kTilePanels; ++p) {
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) _mm512_store_ps(to + (p * kTileRows + kFirst + r) * 16, sums[p][r]);
  }
}

// The values of a pair of blocks of one panel, signed or as they are stored.
HWY_INLINE void unpack_values(BytePanel, const char* pair, bool as_signed, int64_t panel, WeightsRecord* to) {
  const __m512i flip = _mm512_set1_epi8(as_signed ? -128 : 0);
  for (int64_t j = 0; j < 16; ++j) {
    _mm512_store_si512(to[j / 8].values[panel][j % 8],
                       _mm512_xor_si512(_mm512_load_si512(pair + 64 * j), flip));
  }
}
HWY_INLINE void unpack_values(NibblePanel, const char* pair, bool as_signed, int64_t panel,
                              WeightsRecord* to) {
  const __m512i low = _mm512_set1_epi8(15), zero = _mm512_set1_epi8(as_signed ? NibblePanel::kForm.zero : 0);
  for (int64_t j = 0; j < 8; ++j) {
    const __m512i w = _mm512_load_si512(pair + 64 * j);
    _mm512_store_si512(to[0].values[panel][j], _mm512_sub_epi8(_mm512_and_si512(w, low), zero));
    _mm512_store_si512(to[1].values[panel][j],
                       _mm512_sub_epi8(_mm512_and_si512(_mm512_srli_epi16(w, 4), low), zero));
  }
}

// `n` blocks of one panel.
template <typename Panel>
void unpack_pairs(const char* pair, int64_t n, bool as_signed, int64_t panel, WeightsRecord* to) {
  constexpr PanelForm kForm = Panel::kForm;
  for (int64_t first = 0; first < n; first += 2, pair += kForm.pair_bytes(), to += 2) {
    unpack_values(Panel(), pair, as_signed, panel, to);
    const auto* scales = reinterpret_cast<const __m256i*>(pair + kForm.values_bytes());
    for (int64_t b = 0; b < 2; ++b) {
      const __m512 scale = _mm512_cvtph_ps(_mm256_load_si256(scales + b));
      _mm512_store_ps(to[b].outputs[panel].scale, scale);
      _mm512_store_ps(to[b].outputs[panel].offset, _mm512_mul_ps(scale, _mm512_set1_ps(-kFloatBias)));
    }
  }
}

}  // namespace

void run_tiles_vnni(const TileRun& run) {
  constexpr int kHalf = kTileRows / 2;
  const RowsRecord* x = run.rows;
  const char* ahead0 = run.ahead[0];
  const char* ahead1 = run.ahead[1];
  float* to = run.sums;
  for (int64_t tile = 0; tile < run.n_tiles; ++tile, x += run.n_blocks, to += kTileSums) {
    for (int64_t line = 0; line < run.ahead_lines; ++line, ahead0 += 64, ahead1 += 64) {
      _mm_prefetch(ahead0, _MM_HINT_T1);
      _mm_prefetch(ahead1, _MM_HINT_T1);
    }
    run_rows<0, kHalf>(x, run.weights, run.n_blocks, run.first, to);
    run_rows<kHalf, kHalf>(x, run.weights, run.n_blocks, run.first, to);
  }
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
    const char* pair = panels[panel] + first / 2 * pair_bytes(type);
    with_panel(type, [&](auto form) { unpack_pairs<decltype(form)>(pair, n, as_signed, panel, to); });
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
