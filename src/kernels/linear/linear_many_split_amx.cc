// The product of tiles of bf16. Four tiles of sums (two of rows times two of outputs) are as many independent
// chains as the latency of a product needs, and each tile that is loaded serves two products. AVX-512 scales
// the sums of a block and adds them up while the tiles make those of the next block.
#include <algorithm>
#include <cstdint>

#include "base/check.h"
#include "kernels/linear/linear_many_split.h"

#if defined(__x86_64__)
#include <hwy/base.h>
#include <immintrin.h>

HWY_PUSH_ATTRIBUTES("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,amx-tile,amx-bf16")
namespace sepllm {
namespace {

// Tiles 0 to 3: sums, [tile of rows][panel]. 4, 5: weights. 6, 7: rows.
struct alignas(64) TileConfig {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

template <int kRowTiles>
HWY_INLINE void zero_sums() {
  _tile_zero(0);
  _tile_zero(1);
  if constexpr (kRowTiles == 2) {
    _tile_zero(2);
    _tile_zero(3);
  }
}

using Sums = float[4][16][16];

template <int kRowTiles>
HWY_INLINE void store_sums(Sums& to) {
  _tile_stored(0, to[0], 64);
  _tile_stored(1, to[1], 64);
  if constexpr (kRowTiles == 2) {
    _tile_stored(2, to[2], 64);
    _tile_stored(3, to[3], 64);
  }
}

// Loads part kX of the rows into tiles 6 and 7, and part kW of the weights into tiles 4 and 5.
template <int kRowTiles, int kX>
HWY_INLINE void load_rows(const uint16_t* x) {
  _tile_loadd(6, x + 2 * kX * kSplitTile, 64);
  if constexpr (kRowTiles == 2) _tile_loadd(7, x + (2 * kX + 1) * kSplitTile, 64);
}
template <int kW>
HWY_INLINE void load_weights(const uint16_t* w) {
  _tile_loadd(4, w + 2 * kW * kSplitTile, 64);
  _tile_loadd(5, w + (2 * kW + 1) * kSplitTile, 64);
}

// Adds the rows in tiles 6 and 7 times the weights in tiles 4 and 5 to the sums. The operand that the next
// product replaces is used first.
template <int kRowTiles, bool kWeightsNext>
HWY_INLINE void multiply_tiles() {
  _tile_dpbf16ps(0, 6, 4);
  if constexpr (kRowTiles == 2 && kWeightsNext) _tile_dpbf16ps(2, 7, 4);
  _tile_dpbf16ps(1, 6, 5);
  if constexpr (kRowTiles == 2 && !kWeightsNext) _tile_dpbf16ps(2, 7, 4);
  if constexpr (kRowTiles == 2) _tile_dpbf16ps(3, 7, 5);
}

// Multiplies a block: all products of parts that are not left out, in an order in which most of them share an
// operand with the one before. kParts: those of the weights; 0: both operands are rounded.
template <int kRowTiles, int kParts>
HWY_INLINE void multiply_block(const uint16_t* x, const uint16_t* w) {
  if constexpr (kParts == 0) {
    load_weights<0>(w);
    load_rows<kRowTiles, 0>(x);
    return multiply_tiles<kRowTiles, false>();
  }
  if constexpr (kParts == 3) {
    load_weights<2>(w);
    load_rows<kRowTiles, 0>(x);
    multiply_tiles<kRowTiles, true>();
  }
  if constexpr (kParts >= 2) {
    load_weights<1>(w);
    if constexpr (kParts == 2) load_rows<kRowTiles, 0>(x);
    multiply_tiles<kRowTiles, false>();
    load_rows<kRowTiles, 1>(x);
    multiply_tiles<kRowTiles, true>();
    load_weights<0>(w);
  } else {
    load_weights<0>(w);
    load_rows<kRowTiles, 1>(x);
  }
  multiply_tiles<kRowTiles, false>();
  load_rows<kRowTiles, 2>(x);
  multiply_tiles<kRowTiles, false>();
  load_rows<kRowTiles, 0>(x);
  multiply_tiles<kRowTiles, false>();
}

template <int kRowTiles>
HWY_INLINE void add_scaled(const Sums& from, const float* scales, float* to) {
  const __m512 scale[2] = {_mm512_load_ps(scales), _mm512_load_ps(scales + 16)};
  for (int tile = 0; tile < 2 * kRowTiles; ++tile, to += 256) {
#pragma GCC unroll 16
    for (int r = 0; r < 16; ++r) {
      _mm512_store_ps(to + r * 16, _mm512_fmadd_ps(_mm512_load_ps(from[tile][r]), scale[tile % 2],
                                                   _mm512_load_ps(to + r * 16)));
    }
  }
}

// Block types: scaled sums of each block.
template <int kRowTiles>
void multiply_scaled(const uint16_t* x, const uint16_t* w, int64_t n_blocks, float* sums) {
  constexpr int64_t kWeights = 2 * kSplitTile + 2 * kSplitPair;
  constexpr int64_t kRows = SplitForm{3, 1}.rows_block();
  const auto scales = [&](int64_t k) {
    return reinterpret_cast<const float*>(w + k * kWeights + 2 * kSplitTile);
  };
  alignas(64) Sums made[2];
  for (int64_t k = 0; k < n_blocks; ++k) {
    zero_sums<kRowTiles>();
    multiply_block<kRowTiles, 1>(x + k * kRows, w + k * kWeights);
    if (k > 0) add_scaled<kRowTiles>(made[(k - 1) % 2], scales(k - 1), sums);
    store_sums<kRowTiles>(made[k % 2]);
  }
  add_scaled<kRowTiles>(made[(n_blocks - 1) % 2], scales(n_blocks - 1), sums);
}

// Adds 16 rows of a tile's sums to those in memory.
HWY_INLINE void add_tile(const float (&from)[16][16], float* to) {
#pragma GCC unroll 16
  for (int r = 0; r < 16; ++r, to += 16)
    _mm512_store_ps(to, _mm512_add_ps(_mm512_load_ps(from[r]), _mm512_load_ps(to)));
}

// The sums of a pair are added up while the tiles make those of the next pair.
template <int kRowTiles, int kParts>
void multiply_plain(const uint16_t* x, const SplitPairs& pairs, int64_t n_blocks, float* sums) {
  constexpr int kTiles = 2 * kRowTiles;
  constexpr SplitForm kForm = kParts == 0 ? SplitForm{1, 1} : SplitForm{3, kParts};
  alignas(64) Sums made[2];
  for (int64_t p = 0; p < pairs.n; ++p) {
    const uint16_t* w = pairs.weights + p * pairs.stride;
    int added = p == 0 ? kTiles : 0;
    zero_sums<kRowTiles>();
    for (int64_t k = 0; k < n_blocks; ++k) {
      multiply_block<kRowTiles, kParts>(x + k * kForm.rows_block(),
                                        w + k * kForm.weight_parts * 2 * kSplitTile);
      if (added < kTiles) {
        add_tile(made[(p - 1) % 2][added], sums + (p - 1) * kSplitSums + added * 256);
        ++added;
      }
    }
    for (; added < kTiles; ++added)
      add_tile(made[(p - 1) % 2][added], sums + (p - 1) * kSplitSums + added * 256);
    store_sums<kRowTiles>(made[p % 2]);
  }
  for (int tile = 0; tile < kTiles; ++tile)
    add_tile(made[(pairs.n - 1) % 2][tile], sums + (pairs.n - 1) * kSplitSums + tile * 256);
}

template <int kRowTiles>
void multiply(SplitForm form, const uint16_t* x, const SplitPairs& pairs, int64_t n_blocks, float* sums) {
  if (form.rounded()) return multiply_plain<kRowTiles, 0>(x, pairs, n_blocks, sums);
  if (is_block_type(pairs.type)) {
    for (int64_t p = 0; p < pairs.n; ++p)
      multiply_scaled<kRowTiles>(x, pairs.weights + p * pairs.stride, n_blocks, sums + p * kSplitSums);
    return;
  }
  switch (form.weight_parts) {
    case 3:
      return multiply_plain<kRowTiles, 3>(x, pairs, n_blocks, sums);
    case 2:
      return multiply_plain<kRowTiles, 2>(x, pairs, n_blocks, sums);
    default:
      return multiply_plain<kRowTiles, 1>(x, pairs, n_blocks, sums);
  }
}

}  // namespace

void begin_split_tiles() {
  const TileConfig config;
  // The compiler must not think that only the first bytes are read.
  __asm__ volatile("" : : "r"(&config) : "memory");
  _tile_loadconfig(&config);
}
void end_split_tiles() { _tile_release(); }

void multiply_split(SplitForm form, const uint16_t* rows, int64_t n_rows, const SplitPairs& pairs,
                    int64_t n_blocks, bool add, float* sums) {
  if (!add) std::fill_n(sums, pairs.n * kSplitSums, 0.0F);
  (n_rows > 16 ? multiply<2> : multiply<1>)(form, rows, pairs, n_blocks, sums);
}

}  // namespace sepllm
HWY_POP_ATTRIBUTES

#else  // not x86-64

namespace sepllm {
void begin_split_tiles() {}
void end_split_tiles() {}
void multiply_split(SplitForm, const uint16_t*, int64_t, const SplitPairs&, int64_t, bool, float*) {
  SEPLLM_CHECK(false);
}
}  // namespace sepllm

#endif
