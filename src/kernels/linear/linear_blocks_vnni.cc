#include <cstdint>

#include "base/check.h"
#include "kernels/linear/linear_blocks.h"

#if defined(__x86_64__)
// False alarms of GCC 12 on its own intrinsics.
#pragma GCC diagnostic ignored "-Wuninitialized"
#include <hwy/base.h>
#include <immintrin.h>

#include "kernels/formats/format.h"

#define SEPLLM_ALWAYS __attribute__((always_inline))

HWY_PUSH_ATTRIBUTES("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")
#include "kernels/linear/panel_avx512-inl.h"

namespace sepllm {
namespace {

// The lines of a pair's values, each fetched ahead where that is asked for: in a burst the fetches would wait
// for each other. So the loop stays a loop then (unrolled, GCC moves the fetches to its beginning, and a row
// of q8_0 is read a fifth slower); without them it is faster unrolled. Where fn needs j as a constant
// (kUnrolled), a barrier keeps the fetches in their places.
template <bool kFetch, bool kUnrolled, typename Fn>
inline SEPLLM_ALWAYS void for_lines(const char* pair, int begin, int end, int ahead, const Fn& fn) {
  if constexpr (kFetch && kUnrolled) {
#pragma GCC unroll 8
    for (int j = begin; j < end; ++j) {
      __builtin_prefetch(pair + 64 * j + ahead);
      __asm__ volatile("" ::: "memory");
      fn(j);
    }
  } else if constexpr (kFetch) {
#pragma GCC unroll 1
    for (int j = begin; j < end; ++j) {
      __builtin_prefetch(pair + 64 * j + ahead);
      fn(j);
    }
  } else {
#pragma GCC unroll 8
    for (int j = begin; j < end; ++j) fn(j);
  }
}

template <int kLines>
inline SEPLLM_ALWAYS void fetch(const char* lines, int ahead) {
  for (int k = 0; k < kLines; ++k) __builtin_prefetch(lines + 64 * k + ahead);
}

// sums[r] += scale_w * dot * scale_x
inline SEPLLM_ALWAYS __m512 add_block(__m512i dot, float scale_x, __m512 scale_w, __m512 sum) {
  return _mm512_fmadd_ps(_mm512_mul_ps(scale_w, _mm512_cvtepi32_ps(dot)), _mm512_set1_ps(scale_x), sum);
}

// A pair of a unit, and what it is multiplied with.
template <typename Panel>
struct PairRun {
  const char* pair;
  int index;  // in the unit
  const UnitScales<Panel>& scales;
  int ahead;
  const PairOfRows& x;
  float* sums;
};

template <int kRows, bool kFetch>
inline SEPLLM_ALWAYS void pair_product(const PairRun<BytePanel>& run) {
  const PairOfRows& x = run.x;
  if (kFetch) fetch<1>(run.pair + 16 * 64, run.ahead);
  for (int b = 0; b < 2; ++b) {
    __m512i dot[kRows];  // in registers only if all loops over them are unrolled
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) dot[r] = _mm512_set1_epi32(x.start(r, b));
    for_lines<kFetch, false>(run.pair, 8 * b, 8 * b + 8, run.ahead, [&](int j) SEPLLM_ALWAYS {
      const __m512i w = load_line(run.pair + 64 * j);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r)
        dot[r] = _mm512_dpbusd_epi32(dot[r], w, _mm512_set1_epi32(x.four_values(r, 4 * j)));
    });
    const __m512 scale_w = run.scales.scale(0, b, 0);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      float* sum = run.sums + 16 * r;
      _mm512_store_ps(sum, add_block(dot[r], x.scale(r, b), scale_w, _mm512_load_ps(sum)));
    }
  }
}

// All forms of less than 8 bits. (Indices of arrays are literals or those of the loop over rows, so that
// sums stay in registers.)
template <int kRows, bool kFetch, typename Panel>
inline SEPLLM_ALWAYS void pair_product(const PairRun<Panel>& run) {
  constexpr PanelForm kForm = Panel::kForm;
  constexpr int kParts = kForm.parts();
  constexpr bool kHigh = kForm.high_bits() > 0, kMinima = kForm.has_minima(), kStarts = kForm.zero != 0;
  const PairOfRows& x = run.x;
  const char* pair = run.pair;
  if (kFetch) fetch<kForm.tail_lines()>(pair + kForm.values_bytes(), run.ahead);
  const __m512i low = _mm512_set1_epi8(15);
  __m512i dots[kParts][2][kRows];  // of each part of both groups
  const auto start = [&](int part, int g) SEPLLM_ALWAYS {
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r)
      dots[part][g][r] = kStarts ? _mm512_set1_epi32(x.start(r, g, part)) : _mm512_setzero_si512();
  };
  const auto add_line = [&](int j, int part) SEPLLM_ALWAYS {
    const __m512i w = load_line(pair + 64 * j);
    __m512i first = _mm512_and_si512(w, low);
    __m512i second = _mm512_and_si512(_mm512_srli_epi16(w, 4), low);
    if constexpr (kHigh) {
      if (kFetch && Panel::kForm.high_shift(j) == 0) {
        fetch<1>(pair + 64 * Panel::kForm.high_line(0, j), run.ahead);
        fetch<1>(pair + 64 * Panel::kForm.high_line(1, j), run.ahead);
      }
      first = with_high_bits<Panel>(first, pair, 0, j);
      second = with_high_bits<Panel>(second, pair, 1, j);
    }
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      __m512i(&sums)[2][kRows] = dots[part];
      sums[0][r] = _mm512_dpbusd_epi32(sums[0][r], first, _mm512_set1_epi32(x.four_values(r, 4 * j)));
      sums[1][r] = _mm512_dpbusd_epi32(sums[1][r], second, _mm512_set1_epi32(x.four_values(r, 32 + 4 * j)));
    }
  };
  start(0, 0);
  start(0, 1);
  for_lines<kFetch, kHigh>(pair, 0, 8 / kParts, run.ahead, [&](int j) SEPLLM_ALWAYS { add_line(j, 0); });
  if constexpr (kParts == 2) {
    start(1, 0);
    start(1, 1);
    for_lines<kFetch, kHigh>(pair, 4, 8, run.ahead, [&](int j) SEPLLM_ALWAYS { add_line(j, 1); });
  }
  // Read once: to the compiler, the stores of sums might change them.
  __m512 scales[kParts][2], minima[2];
  const auto read_scales = [&](int g) SEPLLM_ALWAYS {
    scales[0][g] = run.scales.scale(run.index, g, 0);
    if constexpr (kParts == 2) scales[1][g] = run.scales.scale(run.index, g, 1);
    if constexpr (kMinima) minima[g] = run.scales.minimum(run.index, g);
  };
  read_scales(0);
  read_scales(1);
  const auto add_group = [&](int g, int r, __m512 sum) SEPLLM_ALWAYS {
    const float scale_x = x.scale(r, g);
    sum = add_block(dots[0][g][r], scale_x, scales[0][g], sum);
    if constexpr (kParts == 2) sum = add_block(dots[1][g][r], scale_x, scales[1][g], sum);
    if constexpr (kMinima) sum = _mm512_fmadd_ps(minima[g], _mm512_set1_ps(x.sum(r, g)), sum);
    return sum;
  };
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
    float* at = run.sums + 16 * r;
    _mm512_store_ps(at, add_group(1, r, add_group(0, r, _mm512_load_ps(at))));
  }
}

// Only a unit's first group of rows fetches ahead.
template <typename Panel, int kRows>
inline void unit_of(const PanelRun& a, const char* unit, int64_t u, int64_t s, const QuantizedRows& q,
                    int64_t row) {
  constexpr PanelForm kForm = Panel::kForm;
  const UnitScales<Panel> scales(unit);
  const bool fetches = row == 0 && a.ahead > 0;
  if (fetches) fetch<kForm.head_lines()>(unit, a.ahead);
  for (int k = 0; k < kForm.pairs(); ++k) {
    const PairOfRows x(q, row, u * kForm.pairs() + k);
    const PairRun<Panel> run{unit + kForm.pair_at(k), k, scales, a.ahead, x, a.sum(s, row)};
    if (fetches) {
      pair_product<kRows, true>(run);
    } else {
      pair_product<kRows, false>(run);
    }
  }
}

template <typename Panel>
void run_units(const PanelRun& a, const QuantizedRows& q) {
  constexpr int kMost = Panel::kForm.parts() == 1 ? 8 : 4;  // rows whose sums fit the registers
  for (int64_t u = 0; u < a.n_units; ++u) {
    for (int s = 0; s < a.n_streams; ++s) {
      const char* unit = a.panels[s] + u * Panel::kForm.unit_bytes();
      int64_t r = 0;
      for (; r + kMost <= a.n_rows; r += kMost) unit_of<Panel, kMost>(a, unit, u, s, q, r);
      const int64_t rest = a.n_rows - r;
      if (kMost > 4 && (rest & 4) != 0) unit_of<Panel, 4>(a, unit, u, s, q, r), r += 4;
      if ((rest & 2) != 0) unit_of<Panel, 2>(a, unit, u, s, q, r), r += 2;
      if ((rest & 1) != 0) unit_of<Panel, 1>(a, unit, u, s, q, r);
    }
  }
}

}  // namespace

void run_panels_vnni(const PanelRun& run, const QuantizedRows& x) {
  with_panel(run.type, [&](auto panel) { run_units<decltype(panel)>(run, x); });
}

}  // namespace sepllm
HWY_POP_ATTRIBUTES

#else  // not x86-64

namespace sepllm {
void run_panels_vnni(const PanelRun&, const QuantizedRows&) { SEPLLM_CHECK(false); }
}  // namespace sepllm

#endif
