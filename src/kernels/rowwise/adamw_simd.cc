#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/rowwise/adamw_simd.cc"
#include <hwy/foreach_target.h>  // must come first

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "kernels/parallel.h"
#include "kernels/rowwise/adamw.h"
#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sepllm {
namespace HWY_NAMESPACE {
namespace {

void AdamwPiece(const AdamwStep& s, int64_t n, const float* gradient, float* parameter, float* m, float* v) {
  const DF d;
  const auto t = static_cast<double>(s.step);
  const VF scale = hn::Set(d, s.gradient_scale), b1 = hn::Set(d, s.beta1), b2 = hn::Set(d, s.beta2);
  const VF one_b1 = hn::Set(d, static_cast<float>(1.0 - s.beta1));
  const VF one_b2 = hn::Set(d, static_cast<float>(1.0 - s.beta2));
  const VF keep = hn::Set(d, static_cast<float>(1.0 - static_cast<double>(s.lr) * s.weight_decay));
  const VF rate = hn::Set(d, static_cast<float>(s.lr / (1.0 - std::pow(s.beta1, t))));
  const VF root = hn::Set(d, static_cast<float>(1.0 / std::sqrt(1.0 - std::pow(s.beta2, t))));
  const VF eps = hn::Set(d, s.eps);
  for (int64_t i = 0; i < n; i += kLanes) {
    const int64_t left = n - i;
    const auto get = [&](const float* p) { return left >= kLanes ? load(p + i) : load_n(p + i, left); };
    const auto put = [&](VF x, float* p) { left >= kLanes ? store(x, p + i) : store_n(x, p + i, left); };
    const VF g = hn::Mul(get(gradient), scale);
    const VF first = hn::MulAdd(b1, get(m), hn::Mul(one_b1, g));
    const VF second = hn::MulAdd(b2, get(v), hn::Mul(one_b2, hn::Mul(g, g)));
    const VF down = hn::MulAdd(hn::Sqrt(second), root, eps);
    put(hn::NegMulAdd(rate, hn::Div(first, down), hn::Mul(keep, get(parameter))), parameter);
    put(first, m);
    put(second, v);
  }
}

double SquaresOfPiece(const float* x, int64_t n) {
  double total = 0;
  constexpr int64_t kBlock = 64 * kLanes;
  for (int64_t begin = 0; begin < n; begin += kBlock) {
    const int64_t end = std::min(n, begin + kBlock);
    VF sum = hn::Zero(DF());
    for (int64_t i = begin; i < end; i += kLanes) {
      const VF v = end - i >= kLanes ? load(x + i) : load_n(x + i, end - i);
      sum = hn::MulAdd(v, v, sum);
    }
    total += reduce_sum(sum);
  }
  return total;
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace sepllm
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sepllm {
namespace {
HWY_EXPORT(AdamwPiece);
HWY_EXPORT(SquaresOfPiece);

constexpr int64_t kPiece = 64 * 1024;
}  // namespace

void adamw(const Context& ctx, const AdamwStep& step, int64_t n, const float* gradient, float* parameter,
           float* m, float* v) {
  parallel_blocks(ctx, n, kPiece, n * 4, [&](int64_t begin, int64_t end, int) {
    HWY_DYNAMIC_DISPATCH(AdamwPiece)
    (step, end - begin, gradient + begin, parameter + begin, m + begin, v + begin);
  });
}

void adamw_reference(const AdamwStep& step, int64_t n, const float* gradient, float* parameter, float* m,
                     float* v) {
  const auto t = static_cast<double>(step.step);
  for (int64_t i = 0; i < n; ++i) {
    const double g = static_cast<double>(gradient[i]) * step.gradient_scale;
    const double first = step.beta1 * static_cast<double>(m[i]) + (1.0 - step.beta1) * g;
    const double second = step.beta2 * static_cast<double>(v[i]) + (1.0 - step.beta2) * g * g;
    const double decayed = parameter[i] * (1.0 - static_cast<double>(step.lr) * step.weight_decay);
    const double corrected = second / (1.0 - std::pow(step.beta2, t));
    const double update = first / (1.0 - std::pow(step.beta1, t)) / (std::sqrt(corrected) + step.eps);
    parameter[i] = static_cast<float>(decayed - step.lr * update);
    m[i] = static_cast<float>(first);
    v[i] = static_cast<float>(second);
  }
}

double sum_of_squares(const Context& ctx, const float* x, int64_t n) {
  const Arena::Scope scope(ctx.arena);
  const int64_t n_pieces = (n + kPiece - 1) / kPiece;
  auto* parts = ctx.arena.allocate<double>(n_pieces);
  parallel_blocks(ctx, n, kPiece, n, [&](int64_t begin, int64_t end, int) {
    parts[begin / kPiece] = HWY_DYNAMIC_DISPATCH(SquaresOfPiece)(x + begin, end - begin);
  });
  double total = 0;
  for (int64_t p = 0; p < n_pieces; ++p) total += parts[p];
  return total;
}

}  // namespace sepllm
#endif  // HWY_ONCE
