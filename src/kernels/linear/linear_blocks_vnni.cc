#include <cstdint>

#include "base/check.h"
#include "kernels/linear/linear_blocks.h"

#if defined(__x86_64__)
// False alarms of GCC 12 on its own intrinsics.
#pragma GCC diagnostic ignored "-Wuninitialized"
#include <immintrin.h>

#include "kernels/formats/format.h"

#define SEPLLM_VNNI __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")))

namespace sepllm {
namespace {

SEPLLM_VNNI inline __m512 half_scales(const char* at) {
  return _mm512_cvtph_ps(_mm256_load_si256(reinterpret_cast<const __m256i*>(at)));
}

SEPLLM_VNNI inline __m512i load_line(const char* at) {
  return _mm512_load_si512(reinterpret_cast<const void*>(at));
}

// sums[r] += scale_w * dot * scale_x
SEPLLM_VNNI inline void add_block(__m512i dot, __m512 scale_x, __m512 scale_w, float* sum) {
  const __m512 scaled = _mm512_mul_ps(scale_w, _mm512_cvtepi32_ps(dot));
  _mm512_store_ps(sum, _mm512_fmadd_ps(scaled, scale_x, _mm512_load_ps(sum)));
}

// Reads the lines of a pair's values and, if asked to, fetches one line ahead for each, because the fetches
// of a burst would wait for each other. With fetches the loop is not unrolled: GCC would move them to its
// beginning, and a row of q8_0 would be read a fifth slower. Without fetches it is faster unrolled.
template <bool kFetch, typename Fn>
SEPLLM_VNNI inline __attribute__((always_inline)) void for_lines(const char* pair, int begin, int end,
                                                                 int ahead, const Fn& fn) {
  if constexpr (kFetch) {
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

template <int kRows, bool kFetch>
SEPLLM_VNNI inline void pair_product(BytePanel, const char* pair, int ahead, const PairOfRows& x,
                                     float* sums) {
  if (kFetch) __builtin_prefetch(pair + 16 * 64 + ahead);
  for (int b = 0; b < 2; ++b) {
    __m512i dot[kRows];
    for (int r = 0; r < kRows; ++r) dot[r] = _mm512_set1_epi32(x.start(r, b));
    for_lines<kFetch>(pair, 8 * b, 8 * b + 8, ahead, [&](int j) SEPLLM_VNNI {
      const __m512i w = load_line(pair + 64 * j);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r)
        dot[r] = _mm512_dpbusd_epi32(dot[r], w, _mm512_set1_epi32(x.four_values(r, 4 * j)));
    });
    const __m512 scale_w = half_scales(pair + 16 * 64 + 32 * b);
    for (int r = 0; r < kRows; ++r) add_block(dot[r], _mm512_set1_ps(x.scale(r, b)), scale_w, sums + 16 * r);
  }
}

template <int kRows, bool kFetch>
SEPLLM_VNNI inline void pair_product(NibblePanel, const char* pair, int ahead, const PairOfRows& x,
                                     float* sums) {
  if (kFetch) __builtin_prefetch(pair + 8 * 64 + ahead);
  const __m512i low = _mm512_set1_epi8(15);
  __m512i first[kRows], second[kRows];
  for (int r = 0; r < kRows; ++r) {
    first[r] = _mm512_set1_epi32(x.start(r, 0));
    second[r] = _mm512_set1_epi32(x.start(r, 1));
  }
  for_lines<kFetch>(pair, 0, 8, ahead, [&](int j) SEPLLM_VNNI {
    const __m512i w = load_line(pair + 64 * j);
    const __m512i w0 = _mm512_and_si512(w, low);
    const __m512i w1 = _mm512_and_si512(_mm512_srli_epi16(w, 4), low);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      first[r] = _mm512_dpbusd_epi32(first[r], w0, _mm512_set1_epi32(x.four_values(r, 4 * j)));
      second[r] = _mm512_dpbusd_epi32(second[r], w1, _mm512_set1_epi32(x.four_values(r, 32 + 4 * j)));
    }
  });
  const __m512 scale0 = half_scales(pair + 8 * 64), scale1 = half_scales(pair + 8 * 64 + 32);
  for (int r = 0; r < kRows; ++r) {
    add_block(first[r], _mm512_set1_ps(x.scale(r, 0)), scale0, sums + 16 * r);
    add_block(second[r], _mm512_set1_ps(x.scale(r, 1)), scale1, sums + 16 * r);
  }
}

// Only the first group of rows of a pair fetches ahead.
template <typename Panel, int kRows>
SEPLLM_VNNI inline void pair_of(const char* pair, int ahead, const QuantizedRows& q, int64_t p, int64_t row,
                                float* sums) {
  const PairOfRows x(q, row, p);
  if (row == 0 && ahead > 0) {
    pair_product<kRows, true>(Panel(), pair, ahead, x, sums);
  } else {
    pair_product<kRows, false>(Panel(), pair, 0, x, sums);
  }
}

template <typename Panel>
SEPLLM_VNNI void run_pairs(const PanelRun& a, const QuantizedRows& q) {
  const int64_t bytes = Panel::kForm.pair_bytes();
  for (int64_t p = 0; p < a.n_pairs; ++p) {
    for (int s = 0; s < a.n_streams; ++s) {
      const char* pair = a.panels[s] + p * bytes;
      int64_t r = 0;
      for (; r + 8 <= a.n_rows; r += 8) pair_of<Panel, 8>(pair, a.ahead, q, p, r, a.sum(s, r));
      const int64_t rest = a.n_rows - r;
      if ((rest & 4) != 0) pair_of<Panel, 4>(pair, a.ahead, q, p, r, a.sum(s, r)), r += 4;
      if ((rest & 2) != 0) pair_of<Panel, 2>(pair, a.ahead, q, p, r, a.sum(s, r)), r += 2;
      if ((rest & 1) != 0) pair_of<Panel, 1>(pair, a.ahead, q, p, r, a.sum(s, r));
    }
  }
}

}  // namespace

SEPLLM_VNNI void run_panels_vnni(const PanelRun& run, const QuantizedRows& x) {
  with_panel(run.type, [&](auto panel) { run_pairs<decltype(panel)>(run, x); });
}

}  // namespace sepllm

#else  // not x86-64

namespace sepllm {
void run_panels_vnni(const PanelRun&, const QuantizedRows&) { SEPLLM_CHECK(false); }
}  // namespace sepllm

#endif
