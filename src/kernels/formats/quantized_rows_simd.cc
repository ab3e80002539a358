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

// to[k] = from[k] * inverse, rounded to nearest even; sums[p]: of each of kParts parts of the block.
template <int kParts>
HWY_INLINE void round_block(const VF (&v)[kVectors], float inverse, int8_t* to, int32_t (&sums)[kParts]) {
#if HWY_TARGET == HWY_SCALAR
  for (int64_t k = 0; k < kVectors; ++k)
    sums[kParts * k / kVectors] += to[k] = to_i8(hn::GetLane(v[k]) * inverse);
#else
  hn::Vec<DI> of_part[kParts];
  for (int p = 0; p < kParts; ++p) of_part[p] = hn::Zero(DI());
  for (int64_t k = 0; k < kVectors; ++k) {
    const auto rounded = hn::NearestInt(hn::Mul(v[k], hn::Set(DF(), inverse)));
    auto& sum = of_part[kParts * k / kVectors];
    sum = hn::Add(sum, rounded);
    hn::StoreU(hn::DemoteTo(hn::Rebind<int8_t, DF>(), rounded), hn::Rebind<int8_t, DF>(), to + k * kLanes);
  }
  for (int p = 0; p < kParts; ++p) sums[p] = hn::GetLane(hn::SumOfLanes(DI(), of_part[p]));
#endif
}

// A template, because one sum less of a vector's lanes for each block is a percent of a prefill.
template <int kParts, bool kSums>
void quantize_blocks(const float* x, int64_t n, int64_t n_blocks, int zero, RowBlocks to) {
  float padded[kGroupElements];
  for (int64_t b = 0; b < n_blocks; ++b) {
    const int64_t first = b * kGroupElements, left = n - first;
    const float* from = padded;
    if (left >= kGroupElements) {
      from = x + first;
    } else {
      std::fill_n(padded, kGroupElements, 0.0F);
      if (left > 0) std::copy_n(x + first, left, padded);
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
    float scale = bits < 0x7F800000 ? 0.0F : std::numeric_limits<float>::quiet_NaN();
    int32_t sums[kParts] = {};
    if (HWY_LIKELY(largest >= 0x1p-100F && bits < 0x7F800000)) {
      scale = largest / 127.0F;
      round_block(v, 127.0F / largest, to.values, sums);
    } else {
      std::fill_n(to.values, kGroupElements, int8_t{0});
    }
    *to.scales = scale;
    if constexpr (kSums) {
      static_assert(kParts == 1);
      *to.sums = scale * static_cast<float>(sums[0]);
      to.sums += to.step;
    }
    for (int p = 0; p < kParts; ++p) {
      if (kSums && to.starts[p] == nullptr) continue;
      *to.starts[p] = -zero * sums[p];
      to.starts[p] += to.starts_step;
    }
    to.values += to.values_step;
    to.scales += to.step;
  }
}

void QuantizeBlocks(const float* x, int64_t n, int64_t n_blocks, const RowsForm& form, const RowBlocks& to) {
  if (form.parts == 2) return quantize_blocks<2, false>(x, n, n_blocks, form.zero, to);
  if (form.sums) return quantize_blocks<1, true>(x, n, n_blocks, form.zero, to);
  quantize_blocks<1, false>(x, n, n_blocks, form.zero, to);
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

void quantize_row_blocks(const float* x, int64_t n, int64_t n_blocks, const RowsForm& form,
                         const RowBlocks& to) {
  HWY_DYNAMIC_DISPATCH(QuantizeBlocks)(x, n, n_blocks, form, to);
}

}  // namespace sepllm
#endif  // HWY_ONCE
