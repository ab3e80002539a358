#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/rowwise/activation_backward_simd.cc"
#include <hwy/foreach_target.h>  // must come first
//
#include <hwy/contrib/math/math-inl.h>

#include <cstdint>

#include "base/check.h"
#include "kernels/parallel.h"
#include "kernels/rowwise/elementwise_backward.h"
#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sepllm {
namespace HWY_NAMESPACE {
namespace {

HWY_INLINE VF constant(float v) { return hn::Set(DF(), v); }
// Beyond +-87 the results are 0 or 1 to the last bit, and no infinity occurs.
HWY_INLINE VF exp_of(VF x) { return hn::Exp(DF(), hn::Min(hn::Max(x, constant(-87.0F)), constant(87.0F))); }
HWY_INLINE VF sigmoid(VF x) { return hn::Div(constant(1.0F), hn::Add(constant(1.0F), exp_of(hn::Neg(x)))); }

// value = f(x), slope = f'(x).
struct ValueAndSlope {
  VF value, slope;
};

// x Phi(x) and Phi(x) + x phi(x); Phi as in elementwise_simd.cc.
struct Gelu {
  static HWY_INLINE ValueAndSlope apply(VF x) {
    const VF z = hn::Mul(hn::Abs(x), constant(0.70710678F));
    const VF t = hn::Div(constant(1.0F), hn::MulAdd(z, constant(0.3275911F), constant(1.0F)));
    VF p = constant(1.061405429F);
    p = hn::MulAdd(p, t, constant(-1.453152027F));
    p = hn::MulAdd(p, t, constant(1.421413741F));
    p = hn::MulAdd(p, t, constant(-0.284496736F));
    p = hn::MulAdd(p, t, constant(0.254829592F));
    const VF bell = exp_of(hn::Neg(hn::Mul(z, z)));
    const VF tail = hn::Mul(hn::Mul(constant(0.5F), hn::Mul(p, t)), bell);
    const VF share = hn::IfThenElse(hn::Lt(x, hn::Zero(DF())), tail, hn::Sub(constant(1.0F), tail));
    const VF density = hn::Mul(constant(0.39894228F), bell);
    return {hn::Mul(x, share), hn::MulAdd(x, density, share)};
  }
};

// x s(u), s the sigmoid of u = 2 sqrt(2 / pi) (x + 0.044715 x^3).
struct GeluTanh {
  static HWY_INLINE ValueAndSlope apply(VF x) {
    const VF square = hn::Mul(x, x);
    const VF u = hn::Mul(x, hn::MulAdd(square, constant(0.0713548163F), constant(1.5957691216F)));
    const VF du = hn::MulAdd(square, constant(0.2140644489F), constant(1.5957691216F));
    const VF s = sigmoid(u);
    const VF ds = hn::Mul(s, hn::Sub(constant(1.0F), s));
    return {hn::Mul(x, s), hn::MulAdd(hn::Mul(x, ds), du, s)};
  }
};

struct Silu {
  static HWY_INLINE ValueAndSlope apply(VF x) {
    const VF s = sigmoid(x);
    const VF value = hn::Mul(x, s);
    return {value, hn::MulAdd(value, hn::Sub(constant(1.0F), s), s)};
  }
};

struct Relu {
  static HWY_INLINE ValueAndSlope apply(VF x) {
    const auto positive = hn::Gt(x, hn::Zero(DF()));
    return {hn::Max(x, hn::Zero(DF())), hn::IfThenElseZero(positive, constant(1.0F))};
  }
};

template <typename F>
void backward_row(const float* x, const float* up, float* d, float* d_up, int64_t n) {
  for (int64_t i = 0; i < n; i += kLanes) {
    const int64_t left = n - i;
    const auto get = [&](const float* p) { return left >= kLanes ? load(p + i) : load_n(p + i, left); };
    const auto put = [&](VF v, float* p) { left >= kLanes ? store(v, p + i) : store_n(v, p + i, left); };
    const auto [value, slope] = F::apply(get(x));
    const VF dy = get(d);
    if (up == nullptr) {
      put(hn::Mul(dy, slope), d);
      continue;
    }
    put(hn::MulAdd(dy, value, get(d_up)), d_up);
    put(hn::Mul(hn::Mul(dy, get(up)), slope), d);
  }
}

void ActivateBackwardRow(Activation f, const float* x, const float* up, float* d, float* d_up, int64_t n) {
  switch (f) {
    case Activation::kGelu:
      return backward_row<Gelu>(x, up, d, d_up, n);
    case Activation::kGeluTanh:
      return backward_row<GeluTanh>(x, up, d, d_up, n);
    case Activation::kRelu:
      return backward_row<Relu>(x, up, d, d_up, n);
    case Activation::kSilu:
      return backward_row<Silu>(x, up, d, d_up, n);
  }
}

// x[i] = exp(x[i] - shift) * factor
void SoftmaxRow(float* x, int64_t n, float shift, float factor) {
  const VF s = constant(shift), f = constant(factor);
  for (int64_t i = 0; i < n; i += kLanes) {
    const int64_t left = n - i;
    const VF v = left >= kLanes ? load(x + i) : load_n(x + i, left);
    const VF p = hn::Mul(hn::Exp(DF(), hn::Sub(v, s)), f);
    left >= kLanes ? store(p, x + i) : store_n(p, x + i, left);
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace sepllm
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sepllm {
namespace {
HWY_EXPORT(ActivateBackwardRow);
HWY_EXPORT(SoftmaxRow);
}  // namespace

void activate_backward_row(Activation f, const float* x, const float* up, float* d, float* d_up, int64_t n) {
  HWY_DYNAMIC_DISPATCH(ActivateBackwardRow)(f, x, up, d, d_up, n);
}
void softmax_row(float* x, int64_t n, float shift, float factor) {
  HWY_DYNAMIC_DISPATCH(SoftmaxRow)(x, n, shift, factor);
}

}  // namespace sepllm
#endif  // HWY_ONCE
