#include <cstdint>

#include "base/check.h"
#include "kernels/formats/format.h"
#include "kernels/linear/linear_blocks.h"

#if defined(__x86_64__)
#include <hwy/base.h>
#include <immintrin.h>

HWY_PUSH_ATTRIBUTES("avx2,fma,f16c")
#include "kernels/linear/panel_avx2-inl.h"

namespace sepllm {
namespace {

// sum += scale_w * dot * scale_x
inline __m256 add_block(__m256i dot, float scale_x, __m256 scale_w, __m256 sum) {
  return _mm256_fmadd_ps(_mm256_mul_ps(scale_w, _mm256_cvtepi32_ps(dot)), _mm256_set1_ps(scale_x), sum);
}

// Fetches ahead, one line for each line that is read, because the fetches of a burst would wait for each
// other. With ahead == 0 nothing is fetched.
inline void fetch_ahead(int ahead, const char* line) {
  if (ahead > 0) __builtin_prefetch(line + ahead);
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

// Bytes are widened to 16 bits, those of even inputs and those of odd ones: sums of two products of 8
// unsigned and 8 signed bits would leave 16 bits.
template <int kRows>
inline void pair_product(const PairRun<BytePanel>& run) {
  const PairOfRows& x = run.x;
  fetch_ahead(run.ahead, run.pair + 16 * 64);
  const __m256i low = _mm256_set1_epi16(255);
  for (int b = 0; b < 2; ++b) {
    __m256i dot[2][kRows];
    for (int r = 0; r < kRows; ++r) dot[0][r] = dot[1][r] = _mm256_set1_epi32(x.start(r, b));
    for (int j = 8 * b; j < 8 * b + 8; ++j) {
      fetch_ahead(run.ahead, run.pair + 64 * j);
      __m256i even[kRows], odd[kRows];
      for (int r = 0; r < kRows; ++r) {
        const __m256i four = _mm256_set1_epi32(x.four_values(r, 4 * j));
        even[r] = _mm256_srai_epi16(_mm256_slli_epi16(four, 8), 8);
        odd[r] = _mm256_srai_epi16(four, 8);
      }
      for (int h = 0; h < 2; ++h) {
        const __m256i w = load_half(run.pair + 64 * j + 32 * h);
        const __m256i w_even = _mm256_and_si256(w, low), w_odd = _mm256_srli_epi16(w, 8);
        for (int r = 0; r < kRows; ++r) {
          const __m256i two =
              _mm256_add_epi32(_mm256_madd_epi16(w_even, even[r]), _mm256_madd_epi16(w_odd, odd[r]));
          dot[h][r] = _mm256_add_epi32(dot[h][r], two);
        }
      }
    }
    for (int h = 0; h < 2; ++h) {
      const __m256 scale_w = run.scales.scale(0, b, 0, h);
      for (int r = 0; r < kRows; ++r) {
        float* sum = run.sums + 16 * r + 8 * h;
        _mm256_store_ps(sum, add_block(dot[h][r], x.scale(r, b), scale_w, _mm256_load_ps(sum)));
      }
    }
  }
}

// Lines whose sums 16 bits hold: each adds two products of unsigned values and signed bytes, of at most
// (2^bits - 1) * 127.
constexpr int lines_at_once(int bits) { return bits == 4 ? 8 : bits == 5 ? 4 : 2; }
static_assert(8 * 2 * 15 * 127 < 1 << 15 && 4 * 2 * 31 * 127 < 1 << 15 && 2 * 2 * 63 * 127 < 1 << 15);

// The integer sums of 8 outputs (half h) over part kPart of a pair's groups, of all forms of less than 8
// bits: dots[group][row]. (Indices of arrays are literals or those of loops over rows, so that sums stay in
// registers.)
template <int kPart, int kRows, typename Panel>
inline void part_dots(const PairRun<Panel>& run, int h, __m256i (&dots)[2][kRows]) {
  constexpr PanelForm kForm = Panel::kForm;
  constexpr int kAtOnce = lines_at_once(kForm.bits), kLines = 8 / kForm.parts();
  const PairOfRows& x = run.x;
  const int ahead = h == 0 ? run.ahead : 0;
  const __m256i low = _mm256_set1_epi8(15), ones = _mm256_set1_epi16(1);
  for (int r = 0; r < kRows; ++r) {
    dots[0][r] = kForm.zero == 0 ? _mm256_setzero_si256() : _mm256_set1_epi32(x.start(r, 0, kPart));
    dots[1][r] = kForm.zero == 0 ? _mm256_setzero_si256() : _mm256_set1_epi32(x.start(r, 1, kPart));
  }
#pragma GCC unroll 2
  for (int first = kPart * kLines; first < (kPart + 1) * kLines; first += kAtOnce) {
    __m256i narrow[2][kRows];
    for (int r = 0; r < kRows; ++r) narrow[0][r] = narrow[1][r] = _mm256_setzero_si256();
#pragma GCC unroll 4
    for (int j = first; j < first + kAtOnce; ++j) {
      fetch_ahead(ahead, run.pair + 64 * j);
      const __m256i w = load_half(run.pair + 64 * j + 32 * h);
      __m256i w0 = _mm256_and_si256(w, low), w1 = _mm256_and_si256(_mm256_srli_epi16(w, 4), low);
      if constexpr (kForm.high_bits() > 0) {
        if (kForm.high_shift(j) == 0) {
          fetch_ahead(ahead, run.pair + 64 * kForm.high_line(0, j));
          fetch_ahead(ahead, run.pair + 64 * kForm.high_line(1, j));
        }
        w0 = with_high_bits<Panel>(w0, run.pair, 0, j, h);
        w1 = with_high_bits<Panel>(w1, run.pair, 1, j, h);
      }
      for (int r = 0; r < kRows; ++r) {
        narrow[0][r] = _mm256_add_epi16(narrow[0][r],
                                        _mm256_maddubs_epi16(w0, _mm256_set1_epi32(x.four_values(r, 4 * j))));
        narrow[1][r] = _mm256_add_epi16(
            narrow[1][r], _mm256_maddubs_epi16(w1, _mm256_set1_epi32(x.four_values(r, 32 + 4 * j))));
      }
    }
    for (int r = 0; r < kRows; ++r) {
      dots[0][r] = _mm256_add_epi32(dots[0][r], _mm256_madd_epi16(narrow[0][r], ones));
      dots[1][r] = _mm256_add_epi32(dots[1][r], _mm256_madd_epi16(narrow[1][r], ones));
    }
  }
}

template <int kRows, typename Panel>
inline void pair_product(const PairRun<Panel>& run) {
  constexpr PanelForm kForm = Panel::kForm;
  const PairOfRows& x = run.x;
  for (int k = 0; k < kForm.tail_lines(); ++k)
    fetch_ahead(run.ahead, run.pair + kForm.values_bytes() + 64 * k);
  for (int h = 0; h < 2; ++h) {
    __m256i dots[kForm.parts()][2][kRows];
    part_dots<0>(run, h, dots[0]);
    if constexpr (kForm.parts() == 2) part_dots<1>(run, h, dots[1]);
    // Read once: to the compiler, the stores of sums might change them.
    __m256 scales[kForm.parts()][2], minima[2];
    const auto read_scales = [&](int g) {
      scales[0][g] = run.scales.scale(run.index, g, 0, h);
      if constexpr (Panel::kForm.parts() == 2) scales[1][g] = run.scales.scale(run.index, g, 1, h);
      if constexpr (Panel::kForm.has_minima()) minima[g] = run.scales.minimum(run.index, g, h);
    };
    read_scales(0);
    read_scales(1);
    const auto add_group = [&](int g, int r, __m256 sum) {
      const float scale_x = x.scale(r, g);
      sum = add_block(dots[0][g][r], scale_x, scales[0][g], sum);
      if constexpr (Panel::kForm.parts() == 2) sum = add_block(dots[1][g][r], scale_x, scales[1][g], sum);
      if constexpr (Panel::kForm.has_minima())
        sum = _mm256_fmadd_ps(minima[g], _mm256_set1_ps(x.sum(r, g)), sum);
      return sum;
    };
    for (int r = 0; r < kRows; ++r) {
      float* at = run.sums + 16 * r + 8 * h;
      _mm256_store_ps(at, add_group(1, r, add_group(0, r, _mm256_load_ps(at))));
    }
  }
}

// Only a unit's first group of rows fetches ahead.
template <typename Panel, int kRows>
inline void unit_of(const PanelRun& a, const char* unit, int64_t u, int64_t s, const QuantizedRows& q,
                    int64_t row) {
  constexpr PanelForm kForm = Panel::kForm;
  const UnitScales<Panel> scales(unit);
  const int ahead = row == 0 ? a.ahead : 0;
  for (int k = 0; k < kForm.head_lines(); ++k) fetch_ahead(ahead, unit + 64 * k);
  for (int k = 0; k < kForm.pairs(); ++k) {
    const PairOfRows x(q, row, u * kForm.pairs() + k);
    pair_product<kRows>(PairRun<Panel>{unit + kForm.pair_at(k), k, scales, ahead, x, a.sum(s, row)});
  }
}

template <typename Panel>
void run_units(const PanelRun& a, const QuantizedRows& q) {
  constexpr int kMost = Panel::kForm.high_bits() == 0 ? 4 : 2;  // rows whose sums fit the registers
  for (int64_t u = 0; u < a.n_units; ++u) {
    for (int s = 0; s < a.n_streams; ++s) {
      const char* unit = a.panels[s] + u * Panel::kForm.unit_bytes();
      int64_t r = 0;
      for (; r + kMost <= a.n_rows; r += kMost) unit_of<Panel, kMost>(a, unit, u, s, q, r);
      const int64_t rest = a.n_rows - r;
      if (kMost > 2 && (rest & 2) != 0) unit_of<Panel, 2>(a, unit, u, s, q, r), r += 2;
      if ((rest & 1) != 0) unit_of<Panel, 1>(a, unit, u, s, q, r);
    }
  }
}

}  // namespace

void run_panels_avx2(const PanelRun& run, const QuantizedRows& x) {
  with_panel(run.type, [&](auto panel) { run_units<decltype(panel)>(run, x); });
}

}  // namespace sepllm
HWY_POP_ATTRIBUTES

#else  // not x86-64

namespace sepllm {
void run_panels_avx2(const PanelRun&, const QuantizedRows&) { SEPLLM_CHECK(false); }
}  // namespace sepllm

#endif
