#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/formats/block_scales_simd.cc"
#include <hwy/foreach_target.h>  // must come first

#include <cstdint>
#include <span>

#include "kernels/formats/block_scales.h"
#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sepllm {
namespace HWY_NAMESPACE {
namespace {

void RoundingErrors(std::span<const float> x, float scale, const float* factors, float low, float high,
                    float* to) {
  const DF d;
  constexpr int64_t kVectors = kScaleCandidates / kLanes;
  static_assert(kVectors * kLanes == kScaleCandidates);
  VF errors[kVectors], scales[kVectors], inverses[kVectors];
  for (int64_t v = 0; v < kVectors; ++v) {
    errors[v] = hn::Zero(d);
    const VF s = hn::Mul(hn::Set(d, scale), load(factors + v * kLanes));
    const VF high_bits = hn::Mul(s, hn::Set(d, 8193.0F));  // 2^13 + 1: the 13 last bits fall away
    scales[v] = hn::Sub(high_bits, hn::Sub(high_bits, s));
    inverses[v] = hn::Div(hn::Set(d, 1.0F), scales[v]);
  }
  for (const float element : x) {
    const VF value = hn::Set(d, element);
    for (int64_t v = 0; v < kVectors; ++v) {
      const VF q = hn::Clamp(hn::Round(hn::Mul(value, inverses[v])), hn::Set(d, low), hn::Set(d, high));
      const VF error = hn::Sub(value, hn::Mul(q, scales[v]));
      errors[v] = hn::Add(errors[v], hn::Mul(error, error));  // not fused: CMakeLists.txt
    }
  }
  for (int64_t v = 0; v < kVectors; ++v) hn::StoreU(errors[v], d, to + v * kLanes);
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace sepllm
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sepllm {
namespace {
HWY_EXPORT(RoundingErrors);
}  // namespace

void rounding_errors(std::span<const float> x, float scale, const float (&factors)[kScaleCandidates],
                     float low, float high, float (&to)[kScaleCandidates]) {
  HWY_DYNAMIC_DISPATCH(RoundingErrors)(x, scale, factors, low, high, to);
}

}  // namespace sepllm
#endif  // HWY_ONCE
