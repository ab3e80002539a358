#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/rowwise/norm_simd.cc"
#include <hwy/foreach_target.h>  // must come first

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "base/check.h"
#include "kernels/parallel.h"
#include "kernels/rowwise/norm.h"
#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sepllm {
namespace HWY_NAMESPACE {
namespace {

// The sum over i of x[i] (kSquares false) or (x[i] - shift)^2, in four accumulators.
template <bool kSquares>
HWY_INLINE double sum_of(const float* x, int64_t n, float shift) {
  const VF s = hn::Set(DF(), shift);
  VF acc[4] = {hn::Zero(DF()), hn::Zero(DF()), hn::Zero(DF()), hn::Zero(DF())};
  int64_t i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
    HWY_UNROLL(4)
    for (int k = 0; k < 4; ++k) {
      const VF v = load(x + i + k * kLanes);
      const VF centred = hn::Sub(v, s);
      acc[k] = kSquares ? hn::MulAdd(centred, centred, acc[k]) : hn::Add(acc[k], v);
    }
  }
  double rest = 0;
  for (; i < n; ++i) {
    const double centred = static_cast<double>(x[i]) - shift;
    rest += kSquares ? centred * centred : static_cast<double>(x[i]);
  }
  return rest + reduce_sum(hn::Add(hn::Add(acc[0], acc[1]), hn::Add(acc[2], acc[3])));
}

// y = (x - shift) * factor * weight + bias
HWY_INLINE void scale_row(const float* x, int64_t n, float shift, float factor, const float* weight,
                          const float* bias, float* y) {
  const VF s = hn::Set(DF(), shift);
  const VF f = hn::Set(DF(), factor);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const VF v = hn::Mul(hn::Mul(hn::Sub(load(x + i), s), f), load(weight + i));
    store(bias != nullptr ? hn::Add(v, load(bias + i)) : v, y + i);
  }
  for (; i < n; ++i) {
    const float v = (x[i] - shift) * factor * weight[i];
    y[i] = bias != nullptr ? v + bias[i] : v;
  }
}

void RmsRow(const float* x, int64_t n, const float* weight, float eps, float* y) {
  const double mean = sum_of<true>(x, n, 0.0F) / static_cast<double>(n);
  scale_row(x, n, 0.0F, static_cast<float>(1.0 / std::sqrt(mean + eps)), weight, nullptr, y);
}

void LayerRow(const float* x, int64_t n, const float* weight, const float* bias, float eps, float* y) {
  const auto count = static_cast<double>(n);
  const double mean = sum_of<false>(x, n, 0.0F) / count;
  const auto shift = static_cast<float>(mean);
  // Undoes the rounding of the mean to float: sum (x - m)^2 = sum (x - s)^2 - n (m - s)^2.
  const double variance = sum_of<true>(x, n, shift) / count - (mean - shift) * (mean - shift);
  scale_row(x, n, shift, static_cast<float>(1.0 / std::sqrt(variance + eps)), weight, bias, y);
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace sepllm
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sepllm {
namespace {
HWY_EXPORT(RmsRow);
HWY_EXPORT(LayerRow);

constexpr int64_t kBlockRows = 16;
}  // namespace

void rms_norm(const Context& ctx, const Matrix& x, const float* weight, float eps, const Matrix& y) {
  SEPLLM_CHECK(x.n_rows == y.n_rows && x.n_cols == y.n_cols);
  parallel_blocks(ctx, x.n_rows, kBlockRows, x.n_rows * x.n_cols, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      HWY_DYNAMIC_DISPATCH(RmsRow)(x.row(r), x.n_cols, weight, eps, y.row(r));
    }
  });
}

void rms_norm_heads(const Context& ctx, const Heads& x, int64_t n_rows, const float* weight, float eps) {
  const int64_t n_heads = x.layout.n, dim = x.layout.dim;
  const int64_t block = std::max<int64_t>(1, kBlockRows / n_heads);
  parallel_blocks(ctx, n_rows, block, n_rows * n_heads * dim, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      for (int64_t h = 0; h < n_heads; ++h)
        HWY_DYNAMIC_DISPATCH(RmsRow)(x.at(r, h), dim, weight, eps, x.at(r, h));
    }
  });
}

void layer_norm(const Context& ctx, const Matrix& x, const float* weight, const float* bias, float eps,
                const Matrix& y) {
  SEPLLM_CHECK(x.n_rows == y.n_rows && x.n_cols == y.n_cols);
  parallel_blocks(ctx, x.n_rows, kBlockRows, x.n_rows * x.n_cols, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      HWY_DYNAMIC_DISPATCH(LayerRow)(x.row(r), x.n_cols, weight, bias, eps, y.row(r));
    }
  });
}

}  // namespace sepllm
#endif  // HWY_ONCE
