#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/linear/linear_simd.cc"
#include <hwy/foreach_target.h>  // must come first

#include <algorithm>
#include <cstdint>

#include "kernels/formats/element.h"
#include "kernels/linear/linear_few.h"
#include "kernels/prefetch.h"
#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sepllm {
namespace HWY_NAMESPACE {
namespace {

// Registers for sums of tiles of 4 rows of W: 32 with AVX-512, else 16.
constexpr int kMaxRows = HWY_TARGET == HWY_AVX3 ? 4 : 2;

// sums[s][r] = the dot product of row s of a tile of W with row r of x. Each has one accumulator, so that the
// result of a row does not depend on the rows that it is grouped with, nor on the walk over W. ahead: in
// elements.
template <typename T, int kTile, int kRows, bool kFetch>
HWY_INLINE void dot_tile(const T* const (&w)[kTile], const float* const (&x)[kRows], int64_t n, int64_t ahead,
                         float (&sums)[kTile][kRows]) {
  VF acc[kTile][kRows];
  HWY_UNROLL(8)
  for (int s = 0; s < kTile; ++s) {
    HWY_UNROLL(4)
    for (int r = 0; r < kRows; ++r) acc[s][r] = hn::Zero(DF());
  }
  const auto step = [&](int64_t at) HWY_ATTR {
    VF tile[kTile];
    HWY_UNROLL(8)
    for (int s = 0; s < kTile; ++s) tile[s] = load(w[s] + at);
    HWY_UNROLL(4)
    for (int r = 0; r < kRows; ++r) {
      const VF v = load(x[r] + at);
      HWY_UNROLL(8)
      for (int s = 0; s < kTile; ++s) acc[s][r] = hn::MulAdd(tile[s], v, acc[s][r]);
    }
  };
  int64_t i = 0;
  constexpr int64_t kLine = kCacheLine / static_cast<int64_t>(sizeof(T));
  for (; i + kLine <= n; i += kLine) {
    if constexpr (kFetch) {            // into the rows that come next where this one ends
      const int64_t next = i + ahead;  // one index for all streams: the loop has no instruction to spare
      HWY_UNROLL(8)
      for (int s = 0; s < kTile; ++s) __builtin_prefetch(w[s] + next);
    }
    HWY_UNROLL(4)
    for (int64_t k = 0; k < kLine; k += kLanes) step(i + k);
  }
  for (; i + kLanes <= n; i += kLanes) step(i);
  if (i < n) {
    HWY_UNROLL(8)
    for (int s = 0; s < kTile; ++s) {
      const VF tail = load_n(w[s] + i, n - i);
      HWY_UNROLL(4)
      for (int r = 0; r < kRows; ++r) acc[s][r] = hn::MulAdd(tail, load_n(x[r] + i, n - i), acc[s][r]);
    }
  }
  HWY_UNROLL(8)  // the sums of all stay in registers
  for (int s = 0; s < kTile; ++s) {
    HWY_UNROLL(4)
    for (int r = 0; r < kRows; ++r) sums[s][r] = reduce_sum(acc[s][r]);
  }
}

template <typename T, int kTile, int kRows>
void dots_of_rows(const FewRows& a, const RowWalk& walk, int64_t tile, int64_t first_row) {
  int64_t outputs[kTile];
  const T* w[kTile];
  const float* x[kRows];
  int64_t stream = 0,
          adjacent = 0;  // counted: a division for each row costs as much as a twentieth of a short row
  for (int s = 0; s < kTile; ++s) {
    outputs[s] = walk.row(tile, stream, adjacent);
    if (++adjacent == walk.adjacent) adjacent = 0, ++stream;
    // Beyond the last output any valid row is read; its sum is not used.
    w[s] = static_cast<const T*>(a.w.data) + std::min(outputs[s], a.w.n_out - 1) * a.w.row_stride;
  }
  for (int r = 0; r < kRows; ++r) x[r] = a.x.row(first_row + r);
  float sums[kTile][kRows];
  if (a.w.walk.ahead > 0) {
    dot_tile<T, kTile, kRows, true>(w, x, a.w.n_in, a.w.walk.ahead / static_cast<int64_t>(sizeof(T)), sums);
  } else {
    dot_tile<T, kTile, kRows, false>(w, x, a.w.n_in, 0, sums);
  }
  for (int r = 0; r < kRows; ++r) {
    float* y = a.y.row(first_row + r);
    for (int s = 0; s < kTile; ++s) {
      const int64_t o = outputs[s];
      if (o >= a.w.n_out) continue;
      const float sum = a.bias != nullptr ? sums[s][r] + a.bias[o] : sums[s][r];
      y[o] = a.accumulate ? y[o] + sum : sum;
    }
  }
}

template <typename T, int kTile>
void few_dots(const FewRows& a, const RowWalk& walk, int64_t begin, int64_t end) {
  constexpr int kMost = kMaxRows * 4 / kTile;
  for (int64_t i = begin; i < end; ++i) {
    int64_t r = 0;
    for (; r + kMost <= a.x.n_rows; r += kMost) dots_of_rows<T, kTile, kMost>(a, walk, i, r);
    if (kMost > 2 && r + 2 <= a.x.n_rows) {
      dots_of_rows<T, kTile, 2>(a, walk, i, r);
      r += 2;
    }
    if (kMost > 1 && r < a.x.n_rows) dots_of_rows<T, kTile, 1>(a, walk, i, r);
  }
}

template <typename T>
void few_dots(const FewRows& a, int64_t begin, int64_t end) {
  const RowWalk walk(a.w);
  if (walk.tile_rows() == 4) return few_dots<T, 4>(a, walk, begin, end);
  few_dots<T, 8>(a, walk, begin, end);
}

// Adds the kRows rows of W at `w`, times x, to sums[c], for n columns.
template <typename T, int kRows>
HWY_INLINE void add_scaled_rows(const T* w, int64_t stride, const float* x, int64_t n, float* sums) {
  VF factor[kRows];
  for (int k = 0; k < kRows; ++k) factor[k] = hn::Set(DF(), x[k]);
  int64_t c = 0;
  for (; c + kLanes <= n; c += kLanes) {
    VF sum = load(sums + c);
    for (int k = 0; k < kRows; ++k) sum = hn::MulAdd(load(w + k * stride + c), factor[k], sum);
    store(sum, sums + c);
  }
  if (c < n) {  // `sums` has room for whole vectors
    VF sum = load(sums + c);
    for (int k = 0; k < kRows; ++k) sum = hn::MulAdd(load_n(w + k * stride + c, n - c), factor[k], sum);
    store(sum, sums + c);
  }
}

template <typename T>
void few_columns(const FewRows& a, int64_t begin, int64_t end) {
  HWY_ALIGN float sums[kMaxColumnRows][kColumnBlock + HWY_MAX_BYTES / sizeof(float)];
  const int64_t n = end - begin;
  const int64_t n_rows = a.x.n_rows;
  const int64_t stride = a.w.row_stride;
  const T* w = static_cast<const T*>(a.w.data) + begin;
  for (int64_t r = 0; r < n_rows; ++r) std::fill_n(sums[r], kColumnBlock + kLanes, 0.0F);
  int64_t i = 0;
  for (; i + 4 <= a.w.n_in; i += 4) {
    for (int64_t r = 0; r < n_rows; ++r) {
      add_scaled_rows<T, 4>(w + i * stride, stride, a.x.row(r) + i, n, sums[r]);
    }
  }
  for (; i < a.w.n_in; ++i) {
    for (int64_t r = 0; r < n_rows; ++r) {
      add_scaled_rows<T, 1>(w + i * stride, stride, a.x.row(r) + i, n, sums[r]);
    }
  }
  for (int64_t r = 0; r < n_rows; ++r) {
    float* y = a.y.row(r) + begin;
    for (int64_t c = 0; c < n; ++c) {
      const float sum = a.bias != nullptr ? sums[r][c] + a.bias[begin + c] : sums[r][c];
      y[c] = a.accumulate ? y[c] + sum : sum;
    }
  }
}

void FewDots(const FewRows& a, int64_t begin, int64_t end) {
  switch (a.w.type) {
    case DType::kF32:
      return few_dots<float>(a, begin, end);
    case DType::kF16:
      return few_dots<f16>(a, begin, end);
    case DType::kBF16:
      return few_dots<bf16>(a, begin, end);
    default:
      break;  // not for this kernel: linear()
  }
}

void FewColumns(const FewRows& a, int64_t begin, int64_t end) {
  switch (a.w.type) {
    case DType::kF32:
      return few_columns<float>(a, begin, end);
    case DType::kF16:
      return few_columns<f16>(a, begin, end);
    case DType::kBF16:
      return few_columns<bf16>(a, begin, end);
    default:
      break;
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace sepllm
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sepllm {
namespace {
HWY_EXPORT(FewDots);
HWY_EXPORT(FewColumns);
}  // namespace

void linear_few_dots(const FewRows& a, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(FewDots)(a, begin, end);
}
void linear_few_columns(const FewRows& a, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(FewColumns)(a, begin, end);
}

}  // namespace sepllm
#endif  // HWY_ONCE
