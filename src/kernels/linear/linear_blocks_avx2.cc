#include <cstdint>

#include "base/check.h"
#include "kernels/formats/format.h"
#include "kernels/linear/linear_blocks.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define SEPLLM_AVX2 __attribute__((target("avx2,fma,f16c")))

namespace sepllm {
namespace {

SEPLLM_AVX2 inline __m256 half_scales(const char* at) {
  return _mm256_cvtph_ps(_mm_load_si128(reinterpret_cast<const __m128i*>(at)));
}

SEPLLM_AVX2 inline __m256i load_half(const char* at) {
  return _mm256_load_si256(reinterpret_cast<const __m256i*>(at));
}

// sum += scale_w * dot * scale_x
SEPLLM_AVX2 inline void add_block(__m256i dot, __m256 scale_x, __m256 scale_w, float* sum) {
  const __m256 scaled = _mm256_mul_ps(scale_w, _mm256_cvtepi32_ps(dot));
  _mm256_store_ps(sum, _mm256_fmadd_ps(scaled, scale_x, _mm256_load_ps(sum)));
}

// Fetches ahead, one line for each line that is read, because the fetches of a burst would wait for each
// other. With ahead == 0 nothing is fetched.
inline void fetch_ahead(int ahead, const char* line) {
  if (ahead > 0) __builtin_prefetch(line + ahead);
}

// Bytes are widened to 16 bits, those of even inputs and those of odd inputs separately, because sums of two
// products of 8 unsigned and 8 signed bits would not fit 16 bits.
template <int kRows>
SEPLLM_AVX2 inline void pair_product(BytePanel, const char* pair, int ahead, const PairOfRows& x,
                                     float* sums) {
  fetch_ahead(ahead, pair + 16 * 64);
  const __m256i low = _mm256_set1_epi16(255);
  for (int b = 0; b < 2; ++b) {
    __m256i dot[2][kRows];
    for (int r = 0; r < kRows; ++r) dot[0][r] = dot[1][r] = _mm256_set1_epi32(x.start(r, b));
    for (int j = 8 * b; j < 8 * b + 8; ++j) {
      fetch_ahead(ahead, pair + 64 * j);
      __m256i even[kRows], odd[kRows];
      for (int r = 0; r < kRows; ++r) {
        const __m256i four = _mm256_set1_epi32(x.four_values(r, 4 * j));
        even[r] = _mm256_srai_epi16(_mm256_slli_epi16(four, 8), 8);
        odd[r] = _mm256_srai_epi16(four, 8);
      }
      for (int h = 0; h < 2; ++h) {
        const __m256i w = load_half(pair + 64 * j + 32 * h);
        const __m256i w_even = _mm256_and_si256(w, low), w_odd = _mm256_srli_epi16(w, 8);
        for (int r = 0; r < kRows; ++r) {
          const __m256i two =
              _mm256_add_epi32(_mm256_madd_epi16(w_even, even[r]), _mm256_madd_epi16(w_odd, odd[r]));
          dot[h][r] = _mm256_add_epi32(dot[h][r], two);
        }
      }
    }
    for (int h = 0; h < 2; ++h) {
      const __m256 scale_w = half_scales(pair + 16 * 64 + 32 * b + 16 * h);
      for (int r = 0; r < kRows; ++r)
        add_block(dot[h][r], _mm256_set1_ps(x.scale(r, b)), scale_w, sums + 16 * r + 8 * h);
    }
  }
}

// 16 bits hold a block's sums of 8 x 2 products of 4 unsigned and 8 signed bits: 16 * 15 * 127 < 2^15.
template <int kRows>
SEPLLM_AVX2 inline void pair_product(NibblePanel, const char* pair, int ahead, const PairOfRows& x,
                                     float* sums) {
  fetch_ahead(ahead, pair + 8 * 64);
  const __m256i low = _mm256_set1_epi8(15), ones = _mm256_set1_epi16(1);
  for (int h = 0; h < 2; ++h) {
    __m256i dot[2][kRows];
    for (int r = 0; r < kRows; ++r) dot[0][r] = dot[1][r] = _mm256_setzero_si256();
    for (int j = 0; j < 8; ++j) {
      fetch_ahead(h == 0 ? ahead : 0, pair + 64 * j);
      const __m256i w = load_half(pair + 64 * j + 32 * h);
      const __m256i w0 = _mm256_and_si256(w, low);
      const __m256i w1 = _mm256_and_si256(_mm256_srli_epi16(w, 4), low);
      for (int r = 0; r < kRows; ++r) {
        dot[0][r] =
            _mm256_add_epi16(dot[0][r], _mm256_maddubs_epi16(w0, _mm256_set1_epi32(x.four_values(r, 4 * j))));
        dot[1][r] = _mm256_add_epi16(
            dot[1][r], _mm256_maddubs_epi16(w1, _mm256_set1_epi32(x.four_values(r, 32 + 4 * j))));
      }
    }
    for (int b = 0; b < 2; ++b) {
      const __m256 scale_w = half_scales(pair + 8 * 64 + 32 * b + 16 * h);
      for (int r = 0; r < kRows; ++r) {
        const __m256i sum =
            _mm256_add_epi32(_mm256_madd_epi16(dot[b][r], ones), _mm256_set1_epi32(x.start(r, b)));
        add_block(sum, _mm256_set1_ps(x.scale(r, b)), scale_w, sums + 16 * r + 8 * h);
      }
    }
  }
}

template <typename Panel, int kRows>
SEPLLM_AVX2 inline void pair_of(const char* pair, int ahead, const QuantizedRows& q, int64_t p, int64_t row,
                                float* sums) {
  const PairOfRows x(q, row, p);
  pair_product<kRows>(Panel(), pair, row == 0 ? ahead : 0, x, sums);
}

template <typename Panel>
SEPLLM_AVX2 void run_pairs(const PanelRun& a, const QuantizedRows& q) {
  const int64_t bytes = Panel::kForm.pair_bytes();
  for (int64_t p = 0; p < a.n_pairs; ++p) {
    for (int s = 0; s < a.n_streams; ++s) {
      const char* pair = a.panels[s] + p * bytes;
      int64_t r = 0;
      for (; r + 4 <= a.n_rows; r += 4) pair_of<Panel, 4>(pair, a.ahead, q, p, r, a.sum(s, r));
      const int64_t rest = a.n_rows - r;
      if ((rest & 2) != 0) pair_of<Panel, 2>(pair, a.ahead, q, p, r, a.sum(s, r)), r += 2;
      if ((rest & 1) != 0) pair_of<Panel, 1>(pair, a.ahead, q, p, r, a.sum(s, r));
    }
  }
}

}  // namespace

SEPLLM_AVX2 void run_panels_avx2(const PanelRun& run, const QuantizedRows& x) {
  with_panel(run.type, [&](auto panel) { run_pairs<decltype(panel)>(run, x); });
}

}  // namespace sepllm

#else  // not x86-64

namespace sepllm {
void run_panels_avx2(const PanelRun&, const QuantizedRows&) { SEPLLM_CHECK(false); }
}  // namespace sepllm

#endif
