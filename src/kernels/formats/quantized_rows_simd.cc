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

struct HalfSums {
  int32_t of[2];
};

// to[k] = from[k] * inverse, rounded to nearest even; returns the sums of both halves.
HWY_INLINE HalfSums round_block(const VF (&v)[kVectors], float inverse, int8_t* to) {
  HalfSums sums{};
#if HWY_TARGET == HWY_SCALAR
  for (int64_t k = 0; k < kVectors; ++k)
    sums.of[2 * k / kVectors] += to[k] = to_i8(hn::GetLane(v[k]) * inverse);
#else
  hn::Vec<DI> of_half[2] = {hn::Zero(DI()), hn::Zero(DI())};
  for (int64_t k = 0; k < kVectors; ++k) {
    const auto rounded = hn::NearestInt(hn::Mul(v[k], hn::Set(DF(), inverse)));
    auto& sum = of_half[2 * k / kVectors];
    sum = hn::Add(sum, rounded);
    hn::StoreU(hn::DemoteTo(hn::Rebind<int8_t, DF>(), rounded), hn::Rebind<int8_t, DF>(), to + k * kLanes);
  }
  for (int h = 0; h < 2; ++h) sums.of[h] = hn::GetLane(hn::SumOfLanes(DI(), of_half[h]));
#endif
  return sums;
}

void QuantizeBlocks(const float* x, int64_t n, const RowsForm& form, const QuantizedRows& out) {
  for (int64_t b = 0; b < out.n_blocks; ++b) {
    const int64_t left = n - b * kGroupElements;
    int8_t* to = out.values + b * kGroupElements;
    float padded[kGroupElements] = {};
    if (left > 0 && left < kGroupElements) std::copy_n(x + b * kGroupElements, left, padded);
    const float* from = left < kGroupElements ? padded : x + b * kGroupElements;
    VF v[kVectors];
    // Magnitudes compare as integers, infinity and NaN above all numbers.
    auto most = hn::Zero(DI());
    for (int64_t k = 0; k < kVectors; ++k) {
      v[k] = load(from + k * kLanes);
      most = hn::Max(most, hn::BitCast(DI(), hn::Abs(v[k])));
    }
    const int32_t bits = hn::GetLane(hn::MaxOfLanes(DI(), most));
    const float largest = std::bit_cast<float>(bits);
    HalfSums sums{};
    if (largest >= 0x1p-100F && bits < 0x7F800000) {
      out.scales[b] = largest / 127.0F;
      sums = round_block(v, 127.0F / largest, to);
    } else {
      std::fill_n(to, kGroupElements, int8_t{0});
      out.scales[b] = bits < 0x7F800000 ? 0.0F : std::numeric_limits<float>::quiet_NaN();
    }
    const int32_t sum = sums.of[0] + sums.of[1];
    if (form.parts == 1) {
      out.starts[b] = -form.zero * sum;
    } else {
      for (int h = 0; h < 2; ++h) out.starts[2 * b + h] = -form.zero * sums.of[h];
    }
    if (form.sums) out.sums[b] = out.scales[b] * static_cast<float>(sum);
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

void quantize_row_blocks(const float* x, int64_t n, const RowsForm& form, const QuantizedRows& to) {
  HWY_DYNAMIC_DISPATCH(QuantizeBlocks)(x, n, form, to);
}

}  // namespace sepllm
#endif  // HWY_ONCE
