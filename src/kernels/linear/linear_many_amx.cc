// The tile product with AMX: the tile unit makes the integer sums of a block, and AVX-512 scales them and
// adds them up. While tiles are in use, the second unit for 512-bit floats is not available, so the vector
// part is the limit: two float instructions and an integer one for each row, panel and block. Loads, products
// and stores of tiles run two blocks ahead of it and stand between its instructions.
#include <cstdint>
#include <type_traits>

#include "base/check.h"
#include "kernels/linear/linear_many_blocks.h"

#if defined(__x86_64__)
#include <hwy/base.h>
#include <immintrin.h>

#include <utility>

// Lambdas must be inlined, because sums stay in registers only if their indices are constants.
#define SEPLLM_ALWAYS __attribute__((always_inline))

HWY_PUSH_ATTRIBUTES("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,amx-tile,amx-int8")
namespace sepllm {
namespace {

static_assert(kTilePanels == 2);
static_assert(sizeof(RowsRecord) == 512 && sizeof(WeightsRecord) == 1280);

// Tiles 0, 1: sums of the panels for even blocks, 2, 3: for odd blocks. 4, 5: weights. 7: rows.
struct alignas(64) TileConfig {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 0, 32};
  uint8_t rows[16] = {kTileRows, kTileRows, kTileRows, kTileRows, 8, 8, 0, kTileRows};
};

template <int kN, typename Fn>
HWY_INLINE void for_each(const Fn& fn) {
  [&]<int... i>(std::integer_sequence<int, i...>) SEPLLM_ALWAYS {
    (fn(std::integral_constant<int, i>{}), ...);
  }
  (std::make_integer_sequence<int, kN>{});
}

// Writes the sums of panel kPanel over a block into tile 2 * kOdd + kPanel. The rows are in tile 7.
template <int kOdd, int kPanel>
HWY_INLINE void multiply(const WeightsRecord* w) {
  if constexpr (kPanel == 0) {
    _tile_loadd(4, w->values[0], 64);
    if constexpr (kOdd == 0) {
      _tile_zero(0);
      _tile_dpbssd(0, 7, 4);
    } else {
      _tile_zero(2);
      _tile_dpbssd(2, 7, 4);
    }
  } else {
    _tile_loadd(5, w->values[1], 64);
    if constexpr (kOdd == 0) {
      _tile_zero(1);
      _tile_dpbssd(1, 7, 5);
    } else {
      _tile_zero(3);
      _tile_dpbssd(3, 7, 5);
    }
  }
}
template <int kOdd, int kPanel>
HWY_INLINE void store_tile(int32_t (*to)[16]) {
  if constexpr (kOdd == 0 && kPanel == 0) _tile_stored(0, to, 64);
  if constexpr (kOdd == 0 && kPanel == 1) _tile_stored(1, to, 64);
  if constexpr (kOdd == 1 && kPanel == 0) _tile_stored(2, to, 64);
  if constexpr (kOdd == 1 && kPanel == 1) _tile_stored(3, to, 64);
}
HWY_INLINE void load_rows(const RowsRecord* x) { _tile_loadd(7, x->values, 32); }

using Sums = __m512[kTileRows];

// sums[r] += scaled integer sums, for kRows rows from kFirst on.
template <int kFirst, int kRows, int kPanel>
HWY_INLINE void add_rows(Sums& sums, const int32_t (*from)[16], const RowsRecord* x, const WeightsRecord* w) {
  const __m512i bias = _mm512_set1_epi32(kFloatBiasBits);
  const __m512 scale = _mm512_load_ps(w->outputs[kPanel].scale);
  const __m512 offset = _mm512_load_ps(w->outputs[kPanel].second);
  for_each<kRows>([&](auto i) SEPLLM_ALWAYS {
    constexpr int r = kFirst + i;
    const __m512 sum = _mm512_castsi512_ps(_mm512_add_epi32(bias, _mm512_load_si512(from[r])));
    sums[r] = _mm512_fmadd_ps(_mm512_fmadd_ps(sum, scale, offset), _mm512_set1_ps(x->scales[r]), sums[r]);
  });
}

struct Buffers {
  alignas(64) int32_t sums[kTilePanels][kTileRows][16];
};

// Adds block k (records x, w), whose integer sums lie in `buffers`; stores those of block k + 1, which are in
// tiles; begins block k + 2 (records next_x, next_w). kOdd: of k + 1.
template <int kOdd>
HWY_INLINE void step(Sums (&sums)[kTilePanels], Buffers& buffers, const RowsRecord* x, const WeightsRecord* w,
                     const RowsRecord* next_x, const WeightsRecord* next_w) {
  constexpr int kHalf = kTileRows / 2;
  add_rows<0, kHalf, 0>(sums[0], buffers.sums[0], x, w);
  load_rows(next_x);
  add_rows<kHalf, kHalf, 0>(sums[0], buffers.sums[0], x, w);
  store_tile<kOdd, 0>(buffers.sums[0]);
  multiply<1 - kOdd, 0>(next_w);
  add_rows<0, kHalf, 1>(sums[1], buffers.sums[1], x, w);
  multiply<1 - kOdd, 1>(next_w);
  add_rows<kHalf, kHalf, 1>(sums[1], buffers.sums[1], x, w);
  store_tile<kOdd, 1>(buffers.sums[1]);
}

}  // namespace

void begin_tiles_amx() {
  const TileConfig config;
  // The compiler must not think that only the first bytes are read.
  __asm__ volatile("" : : "r"(&config) : "memory");
  _tile_loadconfig(&config);
}
void end_tiles_amx() { _tile_release(); }

void run_tiles_amx(const TileRun& run) {
  Buffers buffers;
  const RowsRecord* x = run.rows;
  load_rows(x);
  multiply<0, 0>(run.weights);
  multiply<0, 1>(run.weights);
  store_tile<0, 0>(buffers.sums[0]);
  store_tile<0, 1>(buffers.sums[1]);
  load_rows(x + 1);
  multiply<1, 0>(run.weights + 1);
  multiply<1, 1>(run.weights + 1);
  const char* ahead0 = run.ahead[0];
  const char* ahead1 = run.ahead[1];
  float* to = run.sums;
  for (int64_t tile = 0; tile < run.n_tiles; ++tile, to += kTileSums) {
    for (int64_t line = 0; line < run.ahead_lines; ++line, ahead0 += 64, ahead1 += 64) {
      _mm_prefetch(ahead0, _MM_HINT_T1);
      _mm_prefetch(ahead1, _MM_HINT_T1);
    }
    Sums sums[kTilePanels];
    for_each<kTilePanels>([&](auto p) SEPLLM_ALWAYS {
      for_each<kTileRows>([&](auto r) SEPLLM_ALWAYS {
        sums[p][r] = run.first ? _mm512_setzero_ps() : _mm512_load_ps(to + (p * kTileRows + r) * 16);
      });
    });
    // The last block is followed by the next tile, and the last tile by anything that can be read.
    const RowsRecord* after = tile + 1 < run.n_tiles ? x + run.n_blocks : x;
    const WeightsRecord* w = run.weights;
    for (int64_t k = 0; k < run.n_blocks; k += 2, x += 2, w += 2) {
      const bool last = k + 2 == run.n_blocks;
      const RowsRecord* next_x = last ? after : x + 2;
      const WeightsRecord* next_w = last ? run.weights : w + 2;
      step<1>(sums, buffers, x, w, next_x, next_w);
      step<0>(sums, buffers, x + 1, w + 1, next_x + 1, next_w + 1);
    }
    for_each<kTilePanels>([&](auto p) SEPLLM_ALWAYS {
      for_each<kTileRows>([&](auto r)
                              SEPLLM_ALWAYS { _mm512_store_ps(to + (p * kTileRows + r) * 16, sums[p][r]); });
    });
  }
}

}  // namespace sepllm
HWY_POP_ATTRIBUTES

#else  // not x86-64

namespace sepllm {
void begin_tiles_amx() {}
void end_tiles_amx() {}
void run_tiles_amx(const TileRun&) { SEPLLM_CHECK(false); }
}  // namespace sepllm

#endif
