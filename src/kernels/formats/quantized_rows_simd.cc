#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/formats/quantized_rows_simd.cc"
#include <hwy/foreach_target.h>  // must come first

#include <algorithm>
#include <bit>
#include <cstdint>
#include <limits>

#include "kernels/formats/quantized_rows.h"
#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sepllm {
namespace HWY_NAMESPACE {
namespace {

constexpr int64_t kVectors = kGroupElements / kLanes;

// to[k] = from[k] * inverse, rounded to nearest even; returns the sum of them.
HWY_INLINE int32_t round_block(const VF (&v)[kVectors], float inverse, int8_t* to) {
#if HWY_TARGET == HWY_SCALAR
  int32_t sum = 0;
  for (int64_t k = 0; k < kVectors; ++k) sum += to[k] = to_i8(hn::GetLane(v[k]) * inverse);
  return sum;
#else
  auto sum = hn::Zero(DI());
  for (int64_t k = 0; k < kVectors; ++k) {
    const auto rounded = hn::NearestInt(hn::Mul(v[k], hn::Set(DF(), inverse)));
    sum = hn::Add(sum, rounded);
    hn::StoreU(hn::DemoteTo(hn::Rebind<int8_t, DF>(), rounded), hn::Rebind<int8_t, DF>(), to + k * kLanes);
  }
  return hn::GetLane(hn::SumOfLanes(DI(), sum));
#endif
}

void QuantizeBlocks(const float* x, int64_t n, int64_t n_blocks, int zero, int8_t* values, float* scales,
                    int32_t* starts) {
  for (int64_t b = 0; b < n_blocks; ++b) {
    const int64_t left = n - b * kGroupElements;
    int8_t* to = values + b * kGroupElements;
    float padded[kGroupElements] = {};
    const float* from = x + b * kGroupElements;
    if (left < kGroupElements) {
      if (left > 0) std::copy_n(from, left, padded);
      from = padded;
    }
    VF v[kVectors];
    // Magnitudes compare as integers, infinity and NaN above all numbers.
    auto most = hn::Zero(DI());
    for (int64_t k = 0; k < kVectors; ++k) {
      v[k] = load(from + k * kLanes);
      most = hn::Max(most, hn::BitCast(DI(), hn::Abs(v[k])));
    }
    const int32_t bits = hn::GetLane(hn::MaxOfLanes(DI(), most));
    const float largest = std::bit_cast<float>(bits);
    if (largest >= 0x1p-100F && bits < 0x7F800000) {
      scales[b] = largest / 127.0F;
      starts[b] = -zero * round_block(v, 127.0F / largest, to);
    } else {
      std::fill_n(to, kGroupElements, int8_t{0});
      scales[b] = bits < 0x7F800000 ? 0.0F : std::numeric_limits<float>::quiet_NaN();
      starts[b] = 0;
    }
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace sepllm
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sepllm {
namespace {
HWY_EXPORT(QuantizeBlocks);
}  // namespace

void quantize_row_blocks(const float* x, int64_t n, int64_t n_blocks, int zero, int8_t* values, float* scales,
                         int32_t* starts) {
  HWY_DYNAMIC_DISPATCH(QuantizeBlocks)(x, n, n_blocks, zero, values, scales, starts);
}

}  // namespace sepllm
#endif  // HWY_ONCE
