// Values of panels as floats, for every instruction set: include after simd-inl.h, once per target.
#if defined(SEPLLM_KERNELS_LINEAR_PANEL_VALUES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SEPLLM_KERNELS_LINEAR_PANEL_VALUES_INL_H_
#undef SEPLLM_KERNELS_LINEAR_PANEL_VALUES_INL_H_
#else
#define SEPLLM_KERNELS_LINEAR_PANEL_VALUES_INL_H_
#endif

#include <cstdint>

#include "kernels/formats/panels.h"
#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sepllm {
namespace HWY_NAMESPACE {
namespace {

using VU = hn::Vec<DU>;

HWY_INLINE VU line_words(const char* line, int64_t o) {
  return hn::LoadU(DU(), reinterpret_cast<const uint32_t*>(line) + o);
}

// The 4 values of the outputs from o on in line j of group g of a pair, in the bytes of words. Forms with
// bits in lines of their own.
template <typename Panel>
HWY_INLINE VU joined_words(const char* pair, int g, int j, int64_t o) {
  constexpr PanelForm kForm = Panel::kForm;
  const VU low =
      hn::ShiftRightSame(line_words(pair + 64 * (kForm.group_line(g) + j), o), kForm.group_shift(g));
  const VU high = hn::ShiftRightSame(line_words(pair + 64 * kForm.high_line(g, j), o), kForm.high_shift(j));
  constexpr uint32_t kEachByte = 0x01010101U, kHighMask = (1U << kForm.high_bits()) - 1;
  return hn::Or(hn::And(low, hn::Set(DU(), kEachByte * 15)),
                hn::ShiftLeft<4>(hn::And(high, hn::Set(DU(), kEachByte * kHighMask))));
}

// The values in the kBits bits from kShift on of each word, less what stands for zero.
template <int kBits, int kZero, int kShift>
HWY_INLINE VF values_of(VU w) {
#if HWY_TARGET == HWY_AVX3
  if constexpr (kBits == 4 && kZero == 8) {
    // The instruction looks at the lowest 4 bits only.
    const __m512 values = _mm512_setr_ps(-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7);
    return VF{_mm512_permutexvar_ps(hn::ShiftRight<kShift>(w).raw, values)};
  }
#endif
  // Bits of a float: 2^23 + value.
  const VU bits = hn::And(hn::ShiftRight<kShift>(w), hn::Set(DU(), (1U << kBits) - 1));
  return hn::Sub(hn::BitCast(DF(), hn::Or(bits, hn::Set(DU(), 0x4B000000U))),
                 hn::Set(DF(), 8388608.0F + kZero));
}

// fn(w0, w1, w2, w3) with the values of the 4 inputs of line j of a group.
template <typename Panel, int kGroup, typename Fn>
HWY_INLINE void with_line_values(const char* pair, int j, int64_t o, const Fn& fn) {
  constexpr PanelForm kForm = Panel::kForm;
  if constexpr (kForm.high_bits() > 0) {
    const VU w = joined_words<Panel>(pair, kGroup, j, o);
    fn(values_of<8, kForm.zero, 0>(w), values_of<8, kForm.zero, 8>(w), values_of<8, kForm.zero, 16>(w),
       values_of<8, kForm.zero, 24>(w));
  } else {
    constexpr int kBits = kForm.bits, kZero = kForm.zero, kShift = kForm.group_shift(kGroup);
    const VU w = line_words(pair + 64 * (kForm.group_line(kGroup) + j), o);
    fn(values_of<kBits, kZero, kShift>(w), values_of<kBits, kZero, kShift + 8>(w),
       values_of<kBits, kZero, kShift + 16>(w), values_of<kBits, kZero, kShift + 24>(w));
  }
}

// The scale of part `part` of group g of pair `index` in a unit, for the outputs from o on. `table`: of the
// unit, unless the form has only scales of groups.
template <typename Panel>
HWY_INLINE VF group_scale(const char* pair, const UnitTable& table, int index, int g, int part, int64_t o) {
  constexpr PanelForm kForm = Panel::kForm;
  if constexpr (kForm.scales == PanelScales::kGroups) {
    return load(reinterpret_cast<const f16*>(pair + kForm.values_bytes()) + kPanelOutputs * g + o);
  } else {
    return load(table.scale[2 * index + g][part] + o);
  }
}
template <typename Panel>
HWY_INLINE void fill_table(const char* unit, UnitTable* table) {
  if constexpr (Panel::kForm.scales != PanelScales::kGroups) read_unit_scales(Panel::kForm, unit, table);
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace sepllm
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
