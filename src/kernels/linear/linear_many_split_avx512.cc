// Splits floats into sums of bf16 numbers, in the order of AMX's tiles, and writes the sums of tiles into
// rows.
#include <algorithm>
#include <cstdint>

#include "base/check.h"
#include "kernels/formats/element.h"
#include "kernels/formats/panels.h"
#include "kernels/linear/linear_many_split.h"
#include "kernels/prefetch.h"

#if defined(__x86_64__)
#if defined(__GNUC__) && !defined(__clang__)
// GCC's own header leaves registers that do not matter undefined on purpose, and warns of it.
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include <hwy/base.h>
#include <immintrin.h>

HWY_PUSH_ATTRIBUTES("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")
namespace sepllm {
namespace {

constexpr int kMaskAndOr = 0xEA;  // (a & b) | c

__m512i upper_half() { return _mm512_set1_epi32(static_cast<int>(0xFFFF0000U)); }

// The first n <= 16 elements at `from` (i on), zeros after them.
template <DType kType>
HWY_INLINE __m512 load_floats(const void* from, int64_t i, int64_t n) {
  const auto mask = static_cast<__mmask16>(n >= 16 ? 0xFFFFU : (1U << std::max<int64_t>(n, 0)) - 1U);
  if constexpr (kType == DType::kF32) {
    return _mm512_maskz_loadu_ps(mask, static_cast<const float*>(from) + i);
  } else {
    const __m256i half = _mm256_maskz_loadu_epi16(mask, static_cast<const uint16_t*>(from) + i);
    if constexpr (kType == DType::kF16) return _mm512_cvtph_ps(half);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
  }
}

// Takes the next part of `rest`, a bf16 in the upper half of each word; the remainder stays in `rest`.
HWY_INLINE __m512i take_part(__m512* rest) {
  const __m512i part = _mm512_and_si512(_mm512_castps_si512(*rest), upper_half());
  *rest = _mm512_sub_ps(*rest, _mm512_castsi512_ps(part));
  return part;
}

// The same, or what is rounded to the nearest bf16 (ties to even); then nothing is left to take.
template <bool kRounded>
HWY_INLINE __m512i take(__m512* rest) {
  if constexpr (!kRounded) return take_part(rest);
  const __m512i bits = _mm512_castps_si512(*rest);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i rounded = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7FFF)), odd);
  const __mmask16 is_nan = _mm512_cmp_ps_mask(*rest, *rest, _CMP_UNORD_Q);
  return _mm512_mask_or_epi32(rounded, is_nan, bits, _mm512_set1_epi32(0x00400000));  // a quiet one
}

// The upper halves of the words of two registers, one after the other.
HWY_INLINE __m512i join(__m512i low, __m512i high) {
  alignas(64) static constexpr uint16_t kOdd[32] = {1,  3,  5,  7,  9,  11, 13, 15, 17, 19, 21,
                                                    23, 25, 27, 29, 31, 33, 35, 37, 39, 41, 43,
                                                    45, 47, 49, 51, 53, 55, 57, 59, 61, 63};
  return _mm512_permutex2var_epi16(low, _mm512_load_si512(kOdd), high);
}
// The same halves, alternating: from each pair of words the upper half of `even` and then that of `odd`.
HWY_INLINE __m512i interleave(__m512i even, __m512i odd) {
  return _mm512_ternarylogic_epi32(odd, upper_half(), _mm512_srli_epi32(even, 16), kMaskAndOr);
}

// Transposes a 16 x 16 matrix of words in place.
HWY_INLINE void transpose(__m512i (&m)[16]) {
  __m512i t[16];
#pragma GCC unroll 8
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_epi32(m[i], m[i + 1]);
    t[i + 1] = _mm512_unpackhi_epi32(m[i], m[i + 1]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4) {
    m[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
    m[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
    m[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
    m[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
  // m[4 a + c]: in quarter q, column 4 q + c of the rows 4 a .. 4 a + 3.
#pragma GCC unroll 4
  for (int c = 0; c < 4; ++c) {
    t[c] = _mm512_shuffle_i32x4(m[c], m[4 + c], 0x88);           // quarters 0, 2 of rows 0 .. 7
    t[4 + c] = _mm512_shuffle_i32x4(m[c], m[4 + c], 0xDD);       // quarters 1, 3
    t[8 + c] = _mm512_shuffle_i32x4(m[8 + c], m[12 + c], 0x88);  // of rows 8 .. 15
    t[12 + c] = _mm512_shuffle_i32x4(m[8 + c], m[12 + c], 0xDD);
  }
#pragma GCC unroll 4
  for (int c = 0; c < 4; ++c) {
    m[c] = _mm512_shuffle_i32x4(t[c], t[8 + c], 0x88);
    m[4 + c] = _mm512_shuffle_i32x4(t[4 + c], t[12 + c], 0x88);
    m[8 + c] = _mm512_shuffle_i32x4(t[c], t[8 + c], 0xDD);
    m[12 + c] = _mm512_shuffle_i32x4(t[4 + c], t[12 + c], 0xDD);
  }
}

// Splits a panel of weights that are stored as rows: the block at input `in` of the n_rows <= 16 outputs at
// `rows`.
template <DType kType, int kParts, bool kRounded>
void split_panel_of_rows(const Weight& w, const char* rows, int64_t n_rows, int64_t in, uint16_t* to) {
  __m512i parts[kParts][16];
  const int64_t n = w.n_in - in;
  for (int64_t r = 0; r < 16; ++r) {
    const void* row = rows + r * w.row_stride * dtype_size(kType);
    const int64_t here = r < n_rows ? n : 0;
    __m512 low = load_floats<kType>(row, in, here), high = load_floats<kType>(row, in + 16, here - 16);
    for (int p = 0; p < kParts; ++p) {
      const __m512i part = take<kRounded>(&low);
      parts[p][r] = join(part, take<kRounded>(&high));
    }
  }
  for (int p = 0; p < kParts; ++p, to += 2 * kSplitTile) {
    transpose(parts[p]);
    for (int i = 0; i < 16; ++i) _mm512_store_si512(to + i * 32, parts[p][i]);
  }
}

// Splits weights that are stored as columns (transposed): the inputs in, in + 1, ... of n outputs from `out`
// on.
template <DType kType, int kParts, bool kRounded>
void split_panel_of_columns(const Weight& w, int64_t out, int64_t n, int64_t in, uint16_t* to) {
  const char* data = static_cast<const char*>(w.data);
  for (int64_t i = 0; i < kSplitBlock; i += 2, to += 32) {
    const auto load = [&](int64_t input) {
      return load_floats<kType>(data + input * w.row_stride * dtype_size(kType), out, input < w.n_in ? n : 0);
    };
    __m512 even = load(in + i), odd = load(in + i + 1);
    for (int p = 0; p < kParts; ++p) {
      const __m512i part = take<kRounded>(&even);
      _mm512_store_si512(to + p * 2 * kSplitTile, interleave(part, take<kRounded>(&odd)));
    }
  }
}

template <DType kType, int kParts, bool kRounded>
void split_plain(const Weight& w, int64_t out, int64_t first, int64_t n, uint16_t* to) {
  const int64_t bytes = dtype_size(kType);
  for (int64_t b = first; b < first + n; ++b, to += kParts * 2 * kSplitTile) {
    // Each stored row is a piece of its own, which no hardware prefetcher finds.
    if (w.transposed) {
      const auto* rows = static_cast<const char*>(element_at(kType, w.data, out));
      const int64_t next = (b + 1) * kSplitBlock;
      for (int64_t r = next; r < std::min(w.n_in, next + kSplitBlock); ++r)
        prefetch_row(rows + r * w.row_stride * bytes, std::min(kSplitPair, w.n_out - out) * bytes);
    }
    for (int64_t p = 0; p < 2; ++p) {
      const int64_t begin = out + p * kPanelOutputs;
      const int64_t n_out = std::clamp<int64_t>(w.n_out - begin, 0, kPanelOutputs);
      uint16_t* tile = to + p * kSplitTile;
      if (w.transposed) {
        split_panel_of_columns<kType, kParts, kRounded>(w, begin, n_out, b * kSplitBlock, tile);
      } else {
        const auto* rows = static_cast<const char*>(element_at(kType, w.data, begin * w.row_stride));
        split_panel_of_rows<kType, kParts, kRounded>(w, rows, n_out, b * kSplitBlock, tile);
      }
    }
  }
}

// Splits rows of x. Their largest values, as bits without the sign, are `most`.
HWY_INLINE __mmask16 plain_rows(__m512i most) {
  const __m512i least = _mm512_set1_epi32((127 - 80) << 23), largest = _mm512_set1_epi32((127 + 112) << 23);
  return _mm512_testn_epi32_mask(most, most) |
         (_mm512_cmpge_epu32_mask(most, least) & _mm512_cmple_epu32_mask(most, largest));
}

HWY_INLINE __m512i magnitude(__m512 x) {
  return _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(0x7FFFFFFF));
}

template <int64_t kParts>
void split_stored_rows(const Matrix& x, int64_t n_blocks, uint16_t* to, bool* plain) {
  constexpr int64_t kRowsBlock = SplitForm{kParts, 1}.rows_block();
  // A few blocks of all rows are split at a time, so that whole pieces of memory are read and written.
  constexpr int64_t kBlocks = 4, kAhead = kBlocks * kSplitBlock;
  alignas(64) int32_t most[kSplitGroup][16] = {};
  for (int64_t begin = 0; begin < n_blocks; begin += kBlocks) {
    const int64_t end = std::min(n_blocks, begin + kBlocks);
    for (int64_t r = 0; r < kSplitGroup; ++r) {
      const float* row = r < x.n_rows ? x.row(r) : x.data;
      const int64_t n_cols = r < x.n_rows ? x.n_cols : 0;
      __m512i largest = _mm512_load_si512(most[r]);
      uint16_t* at = to + begin * kRowsBlock + r * kSplitBlock;  // the second tile follows the first
      for (int64_t i = begin * kSplitBlock; i < end * kSplitBlock; i += kSplitBlock, at += kRowsBlock) {
        if (i + kAhead < n_cols) prefetch_row(row + i + kAhead, kSplitBlock * 4);
        __m512 low = load_floats<DType::kF32>(row, i, n_cols - i);
        __m512 high = load_floats<DType::kF32>(row, i + 16, n_cols - i - 16);
        largest = _mm512_max_epu32(largest, _mm512_max_epu32(magnitude(low), magnitude(high)));
        for (int64_t p = 0; p < kParts; ++p) {
          const __m512i part = take<kParts == 1>(&low);
          _mm512_store_si512(at + p * 2 * kSplitTile, join(part, take<kParts == 1>(&high)));
        }
      }
      _mm512_store_si512(most[r], largest);
    }
  }
  for (int64_t r = 0; r < kSplitGroup; ++r) {
    const auto largest = static_cast<int>(_mm512_reduce_max_epu32(_mm512_load_si512(most[r])));
    plain[r] = kParts == 1 || (plain_rows(_mm512_set1_epi32(largest)) & 1U) != 0;
  }
}

// Splits 16 columns of a block: pairs of inputs are put into words, which are transposed.
template <int64_t kParts>
HWY_INLINE void split_column_tile(const Matrix& x, int64_t block, int64_t first, __m512i* most,
                                  uint16_t* to) {
  const int64_t n = x.n_cols - first;
  __m512i parts[kParts][16];
  for (int64_t i = 0; i < 16; ++i) {
    const int64_t in = block * kSplitBlock + 2 * i;
    const auto load = [&](int64_t r) {
      const bool there = r < x.n_rows && n > 0;
      return load_floats<DType::kF32>(there ? x.row(r) + first : x.data, 0, there ? n : 0);
    };
    __m512 even = load(in), odd = load(in + 1);
    *most = _mm512_max_epu32(*most, _mm512_max_epu32(magnitude(even), magnitude(odd)));
    for (int64_t p = 0; p < kParts; ++p) {
      const __m512i part = take<kParts == 1>(&even);
      parts[p][i] = interleave(part, take<kParts == 1>(&odd));
    }
  }
  for (int64_t p = 0; p < kParts; ++p) {
    transpose(parts[p]);
    for (int64_t r = 0; r < 16; ++r)
      _mm512_store_si512(to + p * 2 * kSplitTile + r * kSplitBlock, parts[p][r]);
  }
}

template <int64_t kParts>
void split_stored_columns(const Matrix& x, int64_t n_blocks, uint16_t* to, bool* plain) {
  constexpr int64_t kRowsBlock = SplitForm{kParts, 1}.rows_block();
  __m512i most[2] = {_mm512_setzero_si512(), _mm512_setzero_si512()};
  for (int64_t block = 0; block < n_blocks; ++block, to += kRowsBlock) {
    // Each row of x is a piece of its own, which no hardware prefetcher finds.
    const int64_t next = (block + 1) * kSplitBlock;
    for (int64_t r = next; r < std::min(x.n_rows, next + kSplitBlock); ++r) prefetch_row(x.row(r), 128);
    for (int64_t tile = 0; tile < 2; ++tile)
      split_column_tile<kParts>(x, block, tile * 16, &most[tile], to + tile * kSplitTile);
  }
  for (int64_t r = 0; r < kSplitGroup; ++r)
    plain[r] = kParts == 1 || (plain_rows(most[r / 16]) >> (r % 16) & 1U) != 0;
}

// The bits kShift to kShift + kBits - 1 of each word, minus `zero`, as floats. (The low bits of the float
// 2^23 + value are the value.)
template <int kBits, int kShift>
HWY_INLINE __m512i stored_value(__m512i line, __m512 zero) {
  const __m512i bits =
      _mm512_ternarylogic_epi32(_mm512_srli_epi32(line, kShift), _mm512_set1_epi32((1 << kBits) - 1),
                                _mm512_set1_epi32(0x4B000000), kMaskAndOr);
  return _mm512_castps_si512(_mm512_sub_ps(_mm512_castsi512_ps(bits), zero));
}

// A block of a panel: 8 lines of 4 inputs each.
template <int kBits, int kShift>
HWY_INLINE void split_lines(const char* lines, __m512 zero, uint16_t* to) {
  for (int j = 0; j < 8; ++j, to += 64) {
    const __m512i line = _mm512_loadu_si512(lines + j * 64);
    _mm512_store_si512(
        to, interleave(stored_value<kBits, kShift>(line, zero), stored_value<kBits, kShift + 8>(line, zero)));
    _mm512_store_si512(to + 32, interleave(stored_value<kBits, kShift + 16>(line, zero),
                                           stored_value<kBits, kShift + 24>(line, zero)));
  }
}

template <typename Panel>
void split_panels(const Weight& w, int64_t out, int64_t first, int64_t n, uint16_t* to) {
  constexpr PanelForm kForm = Panel::kForm;
  const int64_t step = SplitForm{3, 1}.weights_block(w.type);
  const __m512 zero = _mm512_set1_ps(8388608.0F + kForm.zero);
  for (int64_t p = 0; p < 2; ++p) {
    const int64_t panel = out / kPanelOutputs + p;
    uint16_t* tile = to + p * kSplitTile;
    float* scales = reinterpret_cast<float*>(to + 2 * kSplitTile) + p * kPanelOutputs;
    const bool there = panel * kPanelOutputs < w.n_out;
    const char* pair = static_cast<const char*>(w.data) +
                       (there ? panel * panel_bytes(w.type, w.n_in) + first / 2 * kForm.pair_bytes() : 0);
    for (int64_t b = 0; b < n; b += 2, tile += 2 * step, scales += step, pair += kForm.pair_bytes()) {
      if (!there) {
        for (uint16_t* t : {tile, tile + step}) std::fill_n(t, kSplitTile, uint16_t{0});
        for (float* s : {scales, scales + step / 2}) std::fill_n(s, kPanelOutputs, 0.0F);
        continue;
      }
      split_lines<kForm.bits, kForm.group_shift(0)>(pair + kForm.group_line(0) * 64, zero, tile);
      split_lines<kForm.bits, kForm.group_shift(1)>(pair + kForm.group_line(1) * 64, zero, tile + step);
      const auto* stored = reinterpret_cast<const __m256i*>(pair + kForm.values_bytes());
      _mm512_store_ps(scales, _mm512_cvtph_ps(_mm256_loadu_si256(stored)));
      _mm512_store_ps(scales + step / 2, _mm512_cvtph_ps(_mm256_loadu_si256(stored + 1)));
    }
  }
}

}  // namespace

void split_rows(const SplitOperand& x, int64_t n_blocks, SplitForm form, uint16_t* to, bool* plain) {
  if (form.rounded())
    return (x.transposed ? split_stored_columns<1> : split_stored_rows<1>)(x.matrix, n_blocks, to, plain);
  (x.transposed ? split_stored_columns<3> : split_stored_rows<3>)(x.matrix, n_blocks, to, plain);
}

void split_weights(const Weight& w, SplitForm form, int64_t out, int64_t first, int64_t n, uint16_t* to) {
  switch (w.type) {
    case DType::kF32:
      return (form.rounded() ? split_plain<DType::kF32, 1, true>
                             : split_plain<DType::kF32, 3, false>)(w, out, first, n, to);
    case DType::kF16:
      return (form.rounded() ? split_plain<DType::kF16, 1, true>
                             : split_plain<DType::kF16, 2, false>)(w, out, first, n, to);
    case DType::kBF16:
      return split_plain<DType::kBF16, 1, false>(w, out, first, n, to);
    default:
      return with_panel(w.type, [&](auto panel) {
        if constexpr (decltype(panel)::kForm.is_plain()) split_panels<decltype(panel)>(w, out, first, n, to);
      });
  }
}

void finish_split(const float* sums, const bool* plain, const float* bias, const Matrix& y, bool accumulate) {
  // Row by row: whole pieces of memory are written, and few pages at a time.
  for (int64_t r = 0; r < y.n_rows; ++r) {
    if (!plain[r]) continue;
    float* row = y.row(r);
    for (int64_t o = 0; o < y.n_cols; o += kPanelOutputs) {
      const int64_t panel = o / kPanelOutputs;
      const float* from =
          sums + panel / 2 * kSplitSums + ((r / 16 * 2 + panel % 2) * 16 + r % 16) * kPanelOutputs;
      const auto mask = static_cast<__mmask16>(y.n_cols - o >= 16 ? 0xFFFFU : (1U << (y.n_cols - o)) - 1U);
      __m512 sum = _mm512_load_ps(from);
      if (bias != nullptr) sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(mask, bias + o));
      if (accumulate) sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(mask, row + o));
      _mm512_mask_storeu_ps(row + o, mask, sum);
    }
  }
}

}  // namespace sepllm
HWY_POP_ATTRIBUTES

#else  // not x86-64

namespace sepllm {
void split_rows(const SplitOperand&, int64_t, SplitForm, uint16_t*, bool*) { SEPLLM_CHECK(false); }
void split_weights(const Weight&, SplitForm, int64_t, int64_t, int64_t, uint16_t*) { SEPLLM_CHECK(false); }
void finish_split(const float*, const bool*, const float*, const Matrix&, bool) { SEPLLM_CHECK(false); }
}  // namespace sepllm

#endif
