#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/linear/linear_simd.cc"
#include <hwy/foreach_target.h>  // must come first

#include <algorithm>

#include "kernels/formats/element.h"
#include "kernels/linear/linear_few.h"
#include "kernels/prefetch.h"
#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sepllm {
namespace HWY_NAMESPACE {
namespace {

// Registers for 4 x kMaxRows sums: 32 with AVX-512, else 16.
constexpr int kMaxRows = HWY_TARGET == HWY_AVX3 ? 4 : 2;
constexpr int64_t kAhead = 2048;  // bytes of a stream that are fetched ahead

// sums[s][r] = the dot product of stream s of W with row r of x. One accumulator each, so that a row's result
// is the same whatever rows it is grouped with.
template <typename T, int kRows>
HWY_INLINE void dot_tile(const T* const (&w)[4], const float* const (&x)[kRows], int64_t n,
                         float (&sums)[4][kRows]) {
  VF acc[4][kRows];
  HWY_UNROLL(4)
  for (int s = 0; s < 4; ++s) {
    HWY_UNROLL(4)
    for (int r = 0; r < kRows; ++r) acc[s][r] = hn::Zero(DF());
  }
  const auto step = [&](int64_t at) HWY_ATTR {
    const VF w0 = load(w[0] + at), w1 = load(w[1] + at), w2 = load(w[2] + at), w3 = load(w[3] + at);
    HWY_UNROLL(4)
    for (int r = 0; r < kRows; ++r) {
      const VF v = load(x[r] + at);
      acc[0][r] = hn::MulAdd(w0, v, acc[0][r]);
      acc[1][r] = hn::MulAdd(w1, v, acc[1][r]);
      acc[2][r] = hn::MulAdd(w2, v, acc[2][r]);
      acc[3][r] = hn::MulAdd(w3, v, acc[3][r]);
    }
  };
  int64_t i = 0;
  constexpr int64_t kLine = kCacheLine / static_cast<int64_t>(sizeof(T));
  for (; i + kLine <= n; i += kLine) {
    // Into the rows that come next where this one ends.
    for (const T* stream : w) __builtin_prefetch(reinterpret_cast<const char*>(stream + i) + kAhead);
    HWY_UNROLL(4)
    for (int64_t k = 0; k < kLine; k += kLanes) step(i + k);
  }
  for (; i + kLanes <= n; i += kLanes) step(i);
  if (i < n) {
    for (int s = 0; s < 4; ++s) {
      const VF tail = load_n(w[s] + i, n - i);
      for (int r = 0; r < kRows; ++r) acc[s][r] = hn::MulAdd(tail, load_n(x[r] + i, n - i), acc[s][r]);
    }
  }
  for (int s = 0; s < 4; ++s) {
    for (int r = 0; r < kRows; ++r) sums[s][r] = reduce_sum(acc[s][r]);
  }
}

template <typename T, int kRows>
void dots_of_rows(const FewRows& a, int64_t i, int64_t first_row) {
  const int64_t quarter = a.quarter();
  const T* w[4];
  const float* x[kRows];
  for (int s = 0; s < 4; ++s) {
    // Beyond the last output: any valid row; its sum is not used.
    const int64_t o = std::min(i + s * quarter, a.w.n_out - 1);
    w[s] = static_cast<const T*>(a.w.data) + o * a.w.row_stride;
  }
  for (int r = 0; r < kRows; ++r) x[r] = a.x.row(first_row + r);
  float sums[4][kRows];
  dot_tile<T, kRows>(w, x, a.w.n_in, sums);
  for (int r = 0; r < kRows; ++r) {
    float* y = a.y.row(first_row + r);
    for (int s = 0; s < 4; ++s) {
      const int64_t o = i + s * quarter;
      if (o >= a.w.n_out) break;
      const float sum = a.bias != nullptr ? sums[s][r] + a.bias[o] : sums[s][r];
      y[o] = a.accumulate ? y[o] + sum : sum;
    }
  }
}

template <typename T>
void few_dots(const FewRows& a, int64_t begin, int64_t end) {
  for (int64_t i = begin; i < end; ++i) {
    int64_t r = 0;
    for (; r + kMaxRows <= a.x.n_rows; r += kMaxRows) dots_of_rows<T, kMaxRows>(a, i, r);
    if (kMaxRows > 2 && r + 2 <= a.x.n_rows) {
      dots_of_rows<T, 2>(a, i, r);
      r += 2;
    }
    if (r < a.x.n_rows) dots_of_rows<T, 1>(a, i, r);
  }
}

// sums[c] += the kRows rows of W at `w`, times x, for n columns.
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
