#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/linear/linear_many_simd.cc"
#include <hwy/foreach_target.h>  // must come first

#include <algorithm>
#include <cstdint>

#include "kernels/formats/panels.h"
#include "kernels/linear/linear_many.h"
#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sepllm {
namespace HWY_NAMESPACE {
namespace {

using VU = hn::Vec<DU>;

// (the kBits bits from kShift on of each word, minus `zero`) * scale
template <int kBits, int kShift>
HWY_INLINE VF weights(VU w, VF zero, VF scale) {
  const VU bits = hn::And(hn::ShiftRight<kShift>(w), hn::Set(DU(), (1U << kBits) - 1));
  // Bits of a float: 2^23 + value.
  return hn::Mul(hn::Sub(hn::BitCast(DF(), hn::Or(bits, hn::Set(DU(), 0x4B000000U))), zero), scale);
}

template <int kBits, int kShift>
HWY_INLINE void four_inputs(VU w, VF zero, VF scale, float* to, int64_t stride) {
  store(weights<kBits, kShift>(w, zero, scale), to);
  store(weights<kBits, kShift + 8>(w, zero, scale), to + stride);
  store(weights<kBits, kShift + 2 * 8>(w, zero, scale), to + 2 * stride);
  store(weights<kBits, kShift + 3 * 8>(w, zero, scale), to + 3 * stride);
}

// 64 inputs.
template <typename Panel>
void pair_to_f32(const char* pair, float* to, int64_t stride) {
  constexpr PanelForm kForm = Panel::kForm;
  const auto* scales = reinterpret_cast<const f16*>(pair + kForm.values_bytes());
  const VF zero = hn::Set(DF(), 8388608.0F + kForm.zero);
  for (int64_t o = 0; o < kPanelOutputs; o += kLanes) {
    const VF first = load(scales + o), second = load(scales + kPanelOutputs + o);
    for (int64_t j = 0; j < 8; ++j) {
      const auto line = [&](int64_t k) {
        return hn::LoadU(DU(), reinterpret_cast<const uint32_t*>(pair + 64 * k) + o);
      };
      float* at = to + 4 * j * stride + o;
      four_inputs<kForm.bits, kForm.group_shift(0)>(line(kForm.group_line(0) + j), zero, first, at, stride);
      four_inputs<kForm.bits, kForm.group_shift(1)>(line(kForm.group_line(1) + j), zero, second,
                                                    at + kGroupElements * stride, stride);
    }
  }
}

void PanelToF32(DType type, const char* panel, int64_t first, int64_t n, float* to, int64_t stride) {
  const int64_t bytes = pair_bytes(type);
  const char* pair = panel + first / kPairElements * bytes;
  const auto convert = with_panel(type, [](auto form) { return &pair_to_f32<decltype(form)>; });
  int64_t i = 0;
  for (; i + kPairElements <= n; i += kPairElements, pair += bytes) convert(pair, to + i * stride, stride);
  if (i < n) {
    HWY_ALIGN float last[kPairElements * kPanelOutputs];
    convert(pair, last, kPanelOutputs);
    for (int64_t k = 0; i < n; ++i, ++k)
      std::copy_n(last + k * kPanelOutputs, kPanelOutputs, to + i * stride);
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace sepllm
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sepllm {
namespace {
HWY_EXPORT(PanelToF32);
}  // namespace

void panel_to_f32(DType type, const char* panel, int64_t first, int64_t n, float* to, int64_t stride) {
  HWY_DYNAMIC_DISPATCH(PanelToF32)(type, panel, first, n, to, stride);
}

}  // namespace sepllm
#endif  // HWY_ONCE
