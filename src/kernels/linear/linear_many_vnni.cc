// The tile product with VNNI.
#include <cstdint>

#include "base/check.h"
#include "kernels/linear/linear_many_blocks.h"

#if defined(__x86_64__)
#include <hwy/base.h>
#include <immintrin.h>

#include <algorithm>
#include <cstring>

#include "kernels/formats/format.h"

HWY_PUSH_ATTRIBUTES("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")
namespace sepllm {
namespace {

HWY_INLINE __m512i four_values(const int8_t* at) {
  int32_t four;
  std::memcpy(&four, at, sizeof(four));
  return _mm512_set1_epi32(four);
}

// sum += scale_w * dot * scale_x
HWY_INLINE __m512 add_block(__m512i dot, __m512 scale_x, __m512 scale_w, __m512 sum) {
  return _mm512_fmadd_ps(_mm512_mul_ps(scale_w, _mm512_cvtepi32_ps(dot)), scale_x, sum);
}

// A block of weights of two panels that were brought into a record.
struct RecordBlock {
  const WeightsRecord* record;

  HWY_INLINE __m512i line(int panel, int j) const { return _mm512_load_si512(record->values[panel][j]); }
  HWY_INLINE __m512 scale(int panel) const { return _mm512_load_ps(record->outputs[panel].scale); }
  HWY_INLINE __m512 second(int panel) const { return _mm512_load_ps(record->outputs[panel].second); }
};
// A block of weights of 8 bits, read from the panels as they are.
struct PanelBlock {
  const char* lines[kTilePanels];
  const char* scales[kTilePanels];

  HWY_INLINE __m512i line(int panel, int j) const { return _mm512_load_si512(lines[panel] + 64 * j); }
  HWY_INLINE __m512 scale(int panel) const {
    return _mm512_cvtph_ps(_mm256_load_si256(reinterpret_cast<const __m256i*>(scales[panel])));
  }
  HWY_INLINE __m512 second(int) const { return _mm512_setzero_ps(); }  // none
};

// The blocks of a run.
struct RecordBlocks {
  const WeightsRecord* records;
  HWY_INLINE RecordBlock at(int64_t k) const { return {records + k}; }
};
struct PanelBlocks {
  static constexpr int64_t kPair = BytePanel::kForm.unit_bytes(), kLines = 8 * 64;
  const char* panels[kTilePanels];
  HWY_INLINE PanelBlock at(int64_t k) const {
    const int64_t pair = k / 2 * kPair, b = k % 2;
    const char* first = panels[0] + pair;
    const char* second = panels[1] + pair;
    return {{first + b * kLines, second + b * kLines},
            {first + 2 * kLines + 32 * b, second + 2 * kLines + 32 * b}};
  }
};

// Adds a block of kRows rows of a tile from row `begin` on: lines [kBegin, kEnd) of the weights, with a scale
// of their own, and with sums that begin with starts[row].
template <int kRows, int kBegin, int kEnd, bool kStarts, typename Block>
HWY_INLINE void add_lines(const RowsRecord* x, int64_t begin, const int32_t* starts, const Block& w,
                          const __m512 (&scales)[kTilePanels], __m512 (&sums)[kTilePanels][kRows]) {
  __m512i dots[kTilePanels][kRows];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
    if constexpr (kStarts) {
      dots[0][r] = dots[1][r] = _mm512_set1_epi32(starts[begin + r]);
    } else {
      dots[0][r] = dots[1][r] = _mm512_setzero_si512();
    }
  }
#pragma GCC unroll 8
  for (int j = kBegin; j < kEnd; ++j) {
    const __m512i w0 = w.line(0, j), w1 = w.line(1, j);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const __m512i four = four_values(x->values[begin + r] + 4 * j);
      dots[0][r] = _mm512_dpbusd_epi32(dots[0][r], w0, four);
      dots[1][r] = _mm512_dpbusd_epi32(dots[1][r], w1, four);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
    const __m512 scale_x = _mm512_set1_ps(x->scales[begin + r]);
    sums[0][r] = add_block(dots[0][r], scale_x, scales[0], sums[0][r]);
    sums[1][r] = add_block(dots[1][r], scale_x, scales[1], sums[1][r]);
  }
}

template <int kRows, bool kMinima, typename Block>
HWY_INLINE void add_block_of_rows(const RowsRecord* x, int64_t begin, const Block& w,
                                  __m512 (&sums)[kTilePanels][kRows]) {
  add_lines<kRows, 0, 8, !kMinima>(x, begin, x->starts, w, {w.scale(0), w.scale(1)}, sums);
  if constexpr (kMinima) {
    const __m512 minimum0 = w.second(0), minimum1 = w.second(1);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const __m512 sum_x = _mm512_set1_ps(x->sums[begin + r]);
      sums[0][r] = _mm512_fmadd_ps(minimum0, sum_x, sums[0][r]);
      sums[1][r] = _mm512_fmadd_ps(minimum1, sum_x, sums[1][r]);
    }
  }
}
template <int kRows, bool kMinima, typename Block>
HWY_INLINE void add_block_of_rows(const HalvesRecord* x, int64_t begin, const Block& w,
                                  __m512 (&sums)[kTilePanels][kRows]) {
  add_lines<kRows, 0, 4, true>(x, begin, x->starts, w, {w.scale(0), w.scale(1)}, sums);
  add_lines<kRows, 4, 8, true>(x, begin, x->second_starts, w, {w.second(0), w.second(1)}, sums);
}

// What is fetched of each panel while a tile's rows are multiplied: `left` lines, of which `step` with each
// block.
struct Fetch {
  const char* ahead[kTilePanels];
  int64_t step, left;

  HWY_INLINE void next() {
    const int64_t n = std::min(step, left);
    for (int64_t line = 0; line < n; ++line, ahead[0] += 64, ahead[1] += 64) {
      _mm_prefetch(ahead[0], _MM_HINT_T0);
      _mm_prefetch(ahead[1], _MM_HINT_T0);
    }
    left -= n;
  }
};

// All blocks of kRows rows of a tile, from row `begin` on.
template <int kRows, bool kMinima, typename Record, typename Blocks>
HWY_INLINE void run_rows(const Record* x, int64_t begin, const Blocks& w, const TileRun& run, Fetch& fetch,
                         float* to) {
  __m512 sums[kTilePanels][kRows];
  to += 16 * begin;
#pragma GCC unroll 2
  for (int p = 0; p < kTilePanels; ++p) {
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r)
      sums[p][r] = run.first ? _mm512_setzero_ps() : _mm512_load_ps(to + (p * kTileRows + r) * 16);
  }
  for (int64_t k = 0; k < run.n_blocks; ++k, ++x) {
    fetch.next();
    add_block_of_rows<kRows, kMinima>(x, begin, w.at(k), sums);
  }
#pragma GCC unroll 2
  for (int p = 0; p < kTilePanels; ++p) {
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) _mm512_store_ps(to + (p * kTileRows + r) * 16, sums[p][r]);
  }
}

// The same for a number of rows that is known only here.
template <bool kMinima, typename Record, typename Blocks>
void run_few_rows(int64_t n_rows, const Record* x, int64_t begin, const Blocks& w, const TileRun& run,
                  Fetch& fetch, float* to) {
  switch (n_rows) {
    case 1:
      return run_rows<1, kMinima>(x, begin, w, run, fetch, to);
    case 2:
      return run_rows<2, kMinima>(x, begin, w, run, fetch, to);
    case 3:
      return run_rows<3, kMinima>(x, begin, w, run, fetch, to);
    case 4:
      return run_rows<4, kMinima>(x, begin, w, run, fetch, to);
    case 5:
      return run_rows<5, kMinima>(x, begin, w, run, fetch, to);
    case 6:
      return run_rows<6, kMinima>(x, begin, w, run, fetch, to);
    default:
      return;  // 0: none
  }
}

template <typename Record, bool kMinima, typename Blocks>
void run_tiles_of(const TileRun& run, const Blocks& w) {
  constexpr int64_t kMost = 6;  // rows whose sums fit the registers
  static_assert(kTileRows == 2 * kMost);
  const auto* x = static_cast<const Record*>(run.rows);
  Fetch fetch{{run.ahead[0], run.ahead[1]}, 0, 0};
  float* to = run.sums;
  for (int64_t tile = 0; tile < run.n_tiles; ++tile, x += run.n_blocks, to += kTileSums) {
    const int64_t n_rows = std::min(kTileRows, run.n_rows - tile * kTileRows);
    const int64_t n_passes = n_rows > kMost ? 2 : 1, first = (n_rows + n_passes - 1) / n_passes;
    fetch.left = run.ahead_lines;
    fetch.step = (run.ahead_lines + n_passes * run.n_blocks - 1) / (n_passes * run.n_blocks);
    run_few_rows<kMinima>(first, x, 0, w, run, fetch, to);
    run_few_rows<kMinima>(n_rows - first, x, first, w, run, fetch, to);
  }
}

}  // namespace

void run_tiles_vnni(const TileRun& run) {
  const PanelForm& form = format_of(run.type).panel;
  if (run.panels[0] != nullptr)
    return run_tiles_of<RowsRecord, false>(run, PanelBlocks{{run.panels[0], run.panels[1]}});
  const RecordBlocks records{run.weights};
  if (form.parts() == 2) return run_tiles_of<HalvesRecord, false>(run, records);
  if (form.has_minima()) return run_tiles_of<RowsRecord, true>(run, records);
  run_tiles_of<RowsRecord, false>(run, records);
}

}  // namespace sepllm
HWY_POP_ATTRIBUTES

#else  // not x86-64

namespace sepllm {
void run_tiles_vnni(const TileRun&) { SEPLLM_CHECK(false); }
}  // namespace sepllm

#endif
