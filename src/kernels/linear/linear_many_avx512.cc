// The tile product by products of bytes with AVX-512, and the functions around it that all kernels with
// AVX-512 share.
#include <algorithm>
#include <cstdint>

#include "base/check.h"
#include "kernels/formats/panels.h"
#include "kernels/linear/linear_many_blocks.h"

#if defined(__x86_64__)
#include <hwy/base.h>
#include <immintrin.h>

#include <cstring>

HWY_PUSH_ATTRIBUTES("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,prfchw")
#include "kernels/linear/panel_avx512-inl.h"

namespace sepllm {
namespace {

// The instructions of linear_many_bytes-inl.h.
struct Bytes {
  using Ints = __m512i;
  using Floats = __m512;
  static constexpr int kOutputs = 16;
  static constexpr int rows_at_once(int /*bits*/) { return 6; }

  static HWY_INLINE Ints load(const uint8_t* at) { return _mm512_load_si512(at); }
  static HWY_INLINE Ints every(int32_t v) { return _mm512_set1_epi32(v); }
  static HWY_INLINE Ints add16(Ints a, Ints b) { return _mm512_add_epi16(a, b); }
  static HWY_INLINE Ints add32(Ints a, Ints b) { return _mm512_add_epi32(a, b); }
  // To 16 bits: sums of two products of an unsigned and a signed byte.
  static HWY_INLINE Ints multiply(Ints w, Ints x) { return _mm512_maddubs_epi16(w, x); }
  static HWY_INLINE Ints multiply_signed(Ints w, Ints x) {
    const Ints with_sign = _mm512_mask_sub_epi8(x, _mm512_movepi8_mask(w), _mm512_setzero_si512(), x);
    return _mm512_maddubs_epi16(_mm512_abs_epi8(w), with_sign);
  }
  static HWY_INLINE Ints add_pairs16(Ints v) { return _mm512_madd_epi16(v, _mm512_set1_epi16(1)); }
  static HWY_INLINE Floats load(const float* at) { return _mm512_load_ps(at); }
  static HWY_INLINE void store(float* at, Floats v) { _mm512_store_ps(at, v); }
  static HWY_INLINE Floats every(float v) { return _mm512_set1_ps(v); }
  static HWY_INLINE Floats to_floats(Ints v) { return _mm512_cvtepi32_ps(v); }
  static HWY_INLINE Floats multiply(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
  static HWY_INLINE Floats multiply_add(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
};

}  // namespace
}  // namespace sepllm
#include "kernels/linear/linear_many_bytes-inl.h"

namespace sepllm {
namespace {

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

void run_tiles_avx512(const TileRun& run) { run_byte_tiles(run); }

void unpack_panel_avx512(DType type, const char* panel, int64_t first, int64_t n, bool as_signed,
                         int64_t index, WeightsRecord* to) {
  const PanelForm& form = format_of(type).panel;
  const char* unit = panel + first / form.groups() * form.unit_bytes();
  with_panel(type, [&](auto tag) { unpack_units<decltype(tag)>(unit, n, as_signed, index, to); });
}

void finish_tiles_avx512(const LinearPart& part, int64_t row, int64_t n_rows, int64_t out,
                         const float* sums) {
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
void run_tiles_avx512(const TileRun&) { SEPLLM_CHECK(false); }
void unpack_panel_avx512(DType, const char*, int64_t, int64_t, bool, int64_t, WeightsRecord*) {
  SEPLLM_CHECK(false);
}
void finish_tiles_avx512(const LinearPart&, int64_t, int64_t, int64_t, const float*) { SEPLLM_CHECK(false); }
}  // namespace sepllm

#endif
