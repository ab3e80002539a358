// The tile product by products of bytes with AVX2, and the functions around it.
#include <algorithm>
#include <cstdint>

#include "base/check.h"
#include "kernels/formats/panels.h"
#include "kernels/linear/linear_many_blocks.h"

#if defined(__x86_64__)
#include <hwy/base.h>
#include <immintrin.h>

#include <cstring>

HWY_PUSH_ATTRIBUTES("avx2,fma,f16c")
#include "kernels/linear/panel_avx2-inl.h"

namespace sepllm {
namespace {

// The instructions of linear_many_bytes-inl.h.
struct Bytes {
  using Ints = __m256i;
  using Floats = __m256;
  static constexpr int kOutputs = 8;
  // As many as leave the sums of two vectors in the 16 registers; 5 and 6 bits need them in 16 and 32 bits.
  static constexpr int rows_at_once(int bits) { return bits == 5 || bits == 6 ? 3 : 4; }

  static HWY_INLINE Ints load(const uint8_t* at) {
    return _mm256_load_si256(reinterpret_cast<const __m256i*>(at));
  }
  static HWY_INLINE Ints every(int32_t v) { return _mm256_set1_epi32(v); }
  static HWY_INLINE Ints add16(Ints a, Ints b) { return _mm256_add_epi16(a, b); }
  static HWY_INLINE Ints add32(Ints a, Ints b) { return _mm256_add_epi32(a, b); }
  // To 16 bits: sums of two products of an unsigned and a signed byte.
  static HWY_INLINE Ints multiply(Ints w, Ints x) { return _mm256_maddubs_epi16(w, x); }
  static HWY_INLINE Ints multiply_signed(Ints w, Ints x) {
    return _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
  }
  static HWY_INLINE Ints add_pairs16(Ints v) { return _mm256_madd_epi16(v, _mm256_set1_epi16(1)); }
  static HWY_INLINE Floats load(const float* at) { return _mm256_load_ps(at); }
  static HWY_INLINE void store(float* at, Floats v) { _mm256_store_ps(at, v); }
  static HWY_INLINE Floats every(float v) { return _mm256_set1_ps(v); }
  static HWY_INLINE Floats to_floats(Ints v) { return _mm256_cvtepi32_ps(v); }
  static HWY_INLINE Floats multiply(Floats a, Floats b) { return _mm256_mul_ps(a, b); }
  static HWY_INLINE Floats multiply_add(Floats a, Floats b, Floats c) { return _mm256_fmadd_ps(a, b, c); }
};

}  // namespace
}  // namespace sepllm
#include "kernels/linear/linear_many_bytes-inl.h"

namespace sepllm {
namespace {

// The values of a pair of blocks of one panel, signed or as they are stored: half h of the lines.
template <typename Panel>
HWY_INLINE void unpack_values(const char* pair, bool as_signed, int64_t panel, int h, WeightsRecord* to) {
  constexpr PanelForm kForm = Panel::kForm;
  const __m256i zero = _mm256_set1_epi8(static_cast<char>(as_signed ? kForm.zero : 0));
  const __m256i low = _mm256_set1_epi8(15);
  const auto put = [&](int group, int j, __m256i v) {
    auto* at = reinterpret_cast<__m256i*>(to[group].values[panel][j] + 32 * h);
    _mm256_store_si256(at, _mm256_sub_epi8(v, zero));
  };
#pragma GCC unroll 8
  for (int j = 0; j < 8; ++j) {
    __m256i first = load_half(pair + 64 * (kForm.group_line(0) + j) + 32 * h);
    __m256i second = load_half(pair + 64 * (kForm.group_line(1) + j) + 32 * h);
    if constexpr (kForm.low_bits() == 4) {
      first = _mm256_and_si256(first, low);
      second = _mm256_and_si256(_mm256_srli_epi16(second, 4), low);
    }
    if constexpr (kForm.high_bits() > 0) {
      first = with_high_bits<Panel>(first, pair, 0, j, h);
      second = with_high_bits<Panel>(second, pair, 1, j, h);
    }
    put(0, j, first);
    put(1, j, second);
  }
}

// `n` blocks of one panel.
template <typename Panel>
void unpack_units(const char* unit, int64_t n, bool as_signed, int64_t panel, WeightsRecord* to) {
  constexpr PanelForm kForm = Panel::kForm;
  for (int64_t first = 0; first < n; first += kForm.groups(), unit += kForm.unit_bytes()) {
    const UnitScales<Panel> scales(unit);
    for (int k = 0; k < kForm.pairs(); ++k, to += 2) {
      for (int h = 0; h < 2; ++h) {
        unpack_values<Panel>(unit + kForm.pair_at(k), as_signed, panel, h, to);
        for (int b = 0; b < 2; ++b) {
          const __m256 scale = scales.scale(k, b, 0, h);
          __m256 second = _mm256_mul_ps(scale, _mm256_set1_ps(-kFloatBias));
          if constexpr (kForm.has_minima()) second = scales.minimum(k, b, h);
          if constexpr (kForm.parts() == 2) second = scales.scale(k, b, 1, h);
          _mm256_store_ps(to[b].outputs[panel].scale + 8 * h, scale);
          _mm256_store_ps(to[b].outputs[panel].second + 8 * h, second);
        }
      }
    }
  }
}

// y[i] = sums[i] + bias[i] (if any) for i < n <= 8, added to y where `accumulate`.
HWY_INLINE void finish_half(const float* sums, const float* bias, bool accumulate, int64_t n, float* y) {
  if (n >= 8) {
    __m256 sum = _mm256_load_ps(sums);
    if (bias != nullptr) sum = _mm256_add_ps(sum, _mm256_loadu_ps(bias));
    if (accumulate) sum = _mm256_add_ps(_mm256_loadu_ps(y), sum);
    _mm256_storeu_ps(y, sum);
    return;
  }
  for (int64_t i = 0; i < n; ++i) {
    const float sum = bias != nullptr ? sums[i] + bias[i] : sums[i];
    y[i] = accumulate ? y[i] + sum : sum;
  }
}

}  // namespace

void run_tiles_avx2(const TileRun& run) { run_byte_tiles(run); }

void unpack_panel_avx2(DType type, const char* panel, int64_t first, int64_t n, bool as_signed, int64_t index,
                       WeightsRecord* to) {
  const PanelForm& form = format_of(type).panel;
  const char* unit = panel + first / form.groups() * form.unit_bytes();
  with_panel(type, [&](auto tag) { unpack_units<decltype(tag)>(unit, n, as_signed, index, to); });
}

void finish_tiles_avx2(const LinearPart& part, int64_t row, int64_t n_rows, int64_t out, const float* sums) {
  for (int64_t r = 0; r < n_rows; ++r) {
    const float* of_row = sums + r / kTileRows * kTileSums + r % kTileRows * 16;
    for (int64_t o = out; o < std::min(out + kTileOutputs, part.w->n_out); o += 8) {
      const int64_t panel = (o - out) / 16, half = (o - out) % 16;
      finish_half(of_row + panel * kTileRows * 16 + half, part.bias != nullptr ? part.bias + o : nullptr,
                  part.accumulate, part.w->n_out - o, part.y.row(row + r) + o);
    }
  }
}

}  // namespace sepllm
HWY_POP_ATTRIBUTES

#else  // not x86-64

namespace sepllm {
void run_tiles_avx2(const TileRun&) { SEPLLM_CHECK(false); }
void unpack_panel_avx2(DType, const char*, int64_t, int64_t, bool, int64_t, WeightsRecord*) {
  SEPLLM_CHECK(false);
}
void finish_tiles_avx2(const LinearPart&, int64_t, int64_t, int64_t, const float*) { SEPLLM_CHECK(false); }
}  // namespace sepllm

#endif
