// The product of operands that are rounded to bf16, by AVX512_BF16: one instruction multiplies a pair of
// inputs with 16 outputs.
#include <cstdint>
#include <cstring>

#include "base/check.h"
#include "kernels/formats/panels.h"
#include "kernels/linear/linear_many_split.h"

#if defined(__x86_64__)
#include <hwy/base.h>
#include <immintrin.h>

HWY_PUSH_ATTRIBUTES("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,f16c")
namespace sepllm {
namespace {

constexpr int64_t kBlockValues = 2 * kSplitTile;  // of both operands
constexpr int kPairs = 16;                        // of inputs, in a block
// Rows at a time: with two panels, 16 chains of sums, as many as the latency of the instruction needs on
// processors that start two of them in a cycle.
constexpr int kRows = 8;

HWY_INLINE __m512bh two_inputs(const uint16_t* at) {
  int32_t two;
  std::memcpy(&two, at, sizeof(two));
  return (__m512bh)_mm512_set1_epi32(two);
}

// kRows rows of a tile, from `x` on, and a pair of panels; sums: those of the rows, [panel][16 rows, of which
// kRows][16 outputs].
HWY_INLINE void multiply_rows(const uint16_t* x, const uint16_t* w, int64_t n_blocks, bool add, float* sums) {
  __m512 made[2][kRows];
#pragma GCC unroll 2
  for (int p = 0; p < 2; ++p) {
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) made[p][r] = _mm512_setzero_ps();
  }
  for (int64_t k = 0; k < n_blocks; ++k, x += kBlockValues, w += kBlockValues) {
#pragma GCC unroll 4
    for (int i = 0; i < kPairs; ++i) {
      const auto w0 = (__m512bh)_mm512_load_si512(w + i * 32);
      const auto w1 = (__m512bh)_mm512_load_si512(w + kSplitTile + i * 32);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        const __m512bh two = two_inputs(x + r * kSplitBlock + 2 * i);
        made[0][r] = _mm512_dpbf16_ps(made[0][r], two, w0);
        made[1][r] = _mm512_dpbf16_ps(made[1][r], two, w1);
      }
    }
  }
#pragma GCC unroll 2
  for (int p = 0; p < 2; ++p) {
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      float* to = sums + p * 256 + r * kPanelOutputs;
      _mm512_store_ps(to, add ? _mm512_add_ps(made[p][r], _mm512_load_ps(to)) : made[p][r]);
    }
  }
}

}  // namespace

void multiply_rounded(const uint16_t* rows, int64_t n_rows, const SplitPairs& pairs, int64_t n_blocks,
                      bool add, float* sums) {
  const int n_tiles = n_rows > 16 ? 2 : 1;
  for (int64_t p = 0; p < pairs.n; ++p, sums += kSplitSums) {
    const uint16_t* w = pairs.weights + p * pairs.stride;
    for (int tile = 0; tile < n_tiles; ++tile) {
      for (int r = 0; r < 16; r += kRows) {
        multiply_rows(rows + tile * kSplitTile + r * kSplitBlock, w, n_blocks, add,
                      sums + tile * 512 + r * kPanelOutputs);
      }
    }
  }
}

}  // namespace sepllm
HWY_POP_ATTRIBUTES

#else  // not x86-64

namespace sepllm {
void multiply_rounded(const uint16_t*, int64_t, const SplitPairs&, int64_t, bool, float*) {
  SEPLLM_CHECK(false);
}
}  // namespace sepllm

#endif
