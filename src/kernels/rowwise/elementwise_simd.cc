#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/rowwise/elementwise_simd.cc"
#include <hwy/foreach_target.h>  // must come first
//
#include <hwy/contrib/math/math-inl.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>

#include "kernels/rowwise/elementwise_rows.h"
#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sepllm {
namespace HWY_NAMESPACE {
namespace {

HWY_INLINE VF exp_of(VF x) { return hn::Exp(DF(), hn::Min(x, hn::Set(DF(), 88.0F))); }

// x Phi(x). Phi's complement by Abramowitz and Stegun 7.1.26: |error| of erf below 1.5e-7.
struct Gelu {
  static HWY_INLINE VF apply(VF x) {
    const DF d;
    const VF z = hn::Mul(hn::Abs(x), hn::Set(d, 0.70710678F));
    const VF t = hn::Div(hn::Set(d, 1.0F), hn::MulAdd(z, hn::Set(d, 0.3275911F), hn::Set(d, 1.0F)));
    VF p = hn::Set(d, 1.061405429F);
    p = hn::MulAdd(p, t, hn::Set(d, -1.453152027F));
    p = hn::MulAdd(p, t, hn::Set(d, 1.421413741F));
    p = hn::MulAdd(p, t, hn::Set(d, -0.284496736F));
    p = hn::MulAdd(p, t, hn::Set(d, 0.254829592F));
    const VF tail = hn::Mul(hn::Mul(hn::Set(d, 0.5F), hn::Mul(p, t)), exp_of(hn::Neg(hn::Mul(z, z))));
    const VF share = hn::IfThenElse(hn::Lt(x, hn::Zero(d)), tail, hn::Sub(hn::Set(d, 1.0F), tail));
    return hn::Mul(x, share);
  }
};

// 0.5 x (1 + tanh(u)) = x / (1 + e^(-2u)), u = sqrt(2 / pi) (x + 0.044715 x^3).
struct GeluTanh {
  static HWY_INLINE VF apply(VF x) {
    const DF d;
    const VF square = hn::Mul(x, x);
    const VF u = hn::Mul(x, hn::MulAdd(square, hn::Set(d, -0.0713548163F), hn::Set(d, -1.5957691216F)));
    return hn::Div(x, hn::Add(hn::Set(d, 1.0F), exp_of(u)));
  }
};

struct Silu {
  static HWY_INLINE VF apply(VF x) { return hn::Div(x, hn::Add(hn::Set(DF(), 1.0F), exp_of(hn::Neg(x)))); }
};

struct Relu {
  static HWY_INLINE VF apply(VF x) { return hn::Max(x, hn::Zero(DF())); }
};

template <typename F>
void activate_row(float* x, const float* up, int64_t n) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const VF v = F::apply(load(x + i));
    store(up != nullptr ? hn::Mul(v, load(up + i)) : v, x + i);
  }
  if (i < n) {
    const VF v = F::apply(load_n(x + i, n - i));
    store_n(up != nullptr ? hn::Mul(v, load_n(up + i, n - i)) : v, x + i, n - i);
  }
}

void ActivateRow(Activation f, float* x, const float* up, int64_t n) {
  switch (f) {
    case Activation::kGelu:
      return activate_row<Gelu>(x, up, n);
    case Activation::kGeluTanh:
      return activate_row<GeluTanh>(x, up, n);
    case Activation::kRelu:
      return activate_row<Relu>(x, up, n);
    case Activation::kSilu:
      return activate_row<Silu>(x, up, n);
  }
}

// Works in blocks that stay in cache between their maximum and their sum, and that are short enough for sums
// in float.
void AddToLogSum(const float* x, int64_t n, LogSum* sum) {
  constexpr int64_t kBlock = 32 * kLanes;
  const VF log2_e = hn::Set(DF(), std::numbers::log2e_v<float>);
  for (int64_t begin = 0; begin < n; begin += kBlock) {
    const int64_t end = std::min(n, begin + kBlock);
    const int64_t whole = begin + (end - begin) / kLanes * kLanes;
    VF tops = hn::Set(DF(), sum->top);
    for (int64_t i = begin; i < whole; i += kLanes) tops = hn::Max(tops, load(x + i));
    float top = reduce_max(tops);
    for (int64_t i = whole; i < end; ++i) top = std::max(top, x[i]);
    if (top > sum->top) {
      sum->total *= std::exp(static_cast<double>(sum->top) - top);
      sum->top = top;
    }
    const VF shift = hn::Set(DF(), sum->top);
    VF block = hn::Zero(DF());
    for (int64_t i = begin; i < whole; i += kLanes)
      block = hn::Add(block, exp2_fast(hn::Mul(hn::Sub(load(x + i), shift), log2_e)));
    sum->total += reduce_sum(block);
    for (int64_t i = whole; i < end; ++i) sum->total += std::exp(static_cast<double>(x[i]) - sum->top);
  }
}

LogSum ExpRow(const float* x, int64_t n, bf16* to) {
  constexpr int64_t kBlock = 32 * kLanes;  // as above: short enough for sums in float
  const int64_t whole = n / kLanes * kLanes;
  LogSum sum;
  VF tops = hn::Set(DF(), sum.top);
  for (int64_t i = 0; i < whole; i += kLanes) tops = hn::Max(tops, load(x + i));
  sum.top = reduce_max(tops);
  for (int64_t i = whole; i < n; ++i) sum.top = std::max(sum.top, x[i]);
  const VF log2_e = hn::Set(DF(), std::numbers::log2e_v<float>), shift = hn::Set(DF(), sum.top);
  for (int64_t begin = 0; begin < whole; begin += kBlock) {
    VF block = hn::Zero(DF());
    for (int64_t i = begin; i < std::min(whole, begin + kBlock); i += kLanes) {
      const VF e = exp2_fast(hn::Mul(hn::Sub(load(x + i), shift), log2_e));
      block = hn::Add(block, e);
      store(e, to + i);
    }
    sum.total += reduce_sum(block);
  }
  for (int64_t i = whole; i < n; ++i) {
    const double e = std::exp(static_cast<double>(x[i]) - sum.top);
    sum.total += e;
    to[i] = to_bf16(static_cast<float>(e));
  }
  return sum;
}

void ScaledRow(const bf16* x, int64_t n, float factor, float* to) {
  const VF f = hn::Set(DF(), factor);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(hn::Mul(load(x + i), f), to + i);
  for (; i < n; ++i) to[i] = to_float(x[i]) * factor;
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace sepllm
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sepllm {
namespace {
HWY_EXPORT(ActivateRow);
HWY_EXPORT(AddToLogSum);
HWY_EXPORT(ExpRow);
HWY_EXPORT(ScaledRow);
}  // namespace

void activate_row(Activation f, float* x, const float* up, int64_t n) {
  HWY_DYNAMIC_DISPATCH(ActivateRow)(f, x, up, n);
}
void add_to_log_sum(const float* x, int64_t n, LogSum* sum) { HWY_DYNAMIC_DISPATCH(AddToLogSum)(x, n, sum); }
LogSum exp_row(const float* x, int64_t n, bf16* to) { return HWY_DYNAMIC_DISPATCH(ExpRow)(x, n, to); }
void scaled_row(const bf16* x, int64_t n, float factor, float* to) {
  HWY_DYNAMIC_DISPATCH(ScaledRow)(x, n, factor, to);
}

}  // namespace sepllm
#endif  // HWY_ONCE
