// Vector loads and stores of stored element types, and exp2. Compiled once per instruction set: include after
// foreach_target.h.
#if defined(SEPLLM_KERNELS_SIMD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SEPLLM_KERNELS_SIMD_INL_H_
#undef SEPLLM_KERNELS_SIMD_INL_H_
#else
#define SEPLLM_KERNELS_SIMD_INL_H_
#endif

#include <hwy/highway.h>

#include <cstdint>
#include <cstring>

#include "base/dtype.h"

HWY_BEFORE_NAMESPACE();
namespace sepllm {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using DF = hn::ScalableTag<float>;
using DU = hn::RebindToUnsigned<DF>;
using DI = hn::RebindToSigned<DF>;
using DU16 = hn::Rebind<uint16_t, DF>;
using VF = hn::Vec<DF>;
inline constexpr int64_t kLanes = static_cast<int64_t>(hn::MaxLanes(DF()));

// Loads Lanes(DF()) elements from p as floats. No alignment is needed.
HWY_INLINE VF load(const float* p) { return hn::LoadU(DF(), p); }
HWY_INLINE VF load(const f16* p) {
#if HWY_TARGET == HWY_SCALAR
  return hn::Set(DF(), to_float(*p));
#else
  const hn::Rebind<hwy::float16_t, DF> d16;
  return hn::PromoteTo(DF(), hn::BitCast(d16, hn::LoadU(DU16(), reinterpret_cast<const uint16_t*>(p))));
#endif
}
HWY_INLINE VF load(const bf16* p) {
  const auto bits = hn::PromoteTo(DU(), hn::LoadU(DU16(), reinterpret_cast<const uint16_t*>(p)));
  return hn::BitCast(DF(), hn::ShiftLeft<16>(bits));
}

HWY_INLINE VF load(const int8_t* p) {
#if HWY_TARGET == HWY_SCALAR
  return hn::Set(DF(), to_float(*p));
#else
  return hn::ConvertTo(DF(), hn::PromoteTo(DI(), hn::LoadU(hn::Rebind<int8_t, DF>(), p)));
#endif
}

// Loads the first n < Lanes elements and sets the other lanes to zero; nothing beyond p + n is read.
template <typename T>
HWY_INLINE VF load_n(const T* p, int64_t n) {
  T buffer[kLanes] = {};
  std::memcpy(buffer, p, static_cast<size_t>(n) * sizeof(T));
  return load(buffer);
}
#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3
// On other instruction sets, Highway's masked load reads the whole vector, from an aligned address.
HWY_INLINE VF load_n(const float* p, int64_t n) {
  return hn::MaskedLoad(hn::FirstN(DF(), static_cast<size_t>(n)), DF(), p);
}
#endif
#if HWY_TARGET == HWY_AVX3
HWY_INLINE VF load_n(const f16* p, int64_t n) {
  const auto mask = hn::FirstN(DU16(), static_cast<size_t>(n));
  const auto bits = hn::MaskedLoad(mask, DU16(), reinterpret_cast<const uint16_t*>(p));
  return hn::PromoteTo(DF(), hn::BitCast(hn::Rebind<hwy::float16_t, DF>(), bits));
}
HWY_INLINE VF load_n(const bf16* p, int64_t n) {
  const auto mask = hn::FirstN(DU16(), static_cast<size_t>(n));
  const auto bits = hn::MaskedLoad(mask, DU16(), reinterpret_cast<const uint16_t*>(p));
  return hn::BitCast(DF(), hn::ShiftLeft<16>(hn::PromoteTo(DU(), bits)));
}
HWY_INLINE VF load_n(const int8_t* p, int64_t n) {
  const hn::Rebind<int8_t, DF> d8;
  const auto integers = hn::MaskedLoad(hn::FirstN(d8, static_cast<size_t>(n)), d8, p);
  return hn::ConvertTo(DF(), hn::PromoteTo(DI(), integers));
}
#endif

// Stores; rounds to nearest even.
HWY_INLINE void store(VF v, float* p) { hn::StoreU(v, DF(), p); }
HWY_INLINE void store(VF v, f16* p) {
#if HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_SSE4
  // Without F16C, Highway neither rounds to even nor overflows to infinity.
  float lanes[kLanes];
  store(v, lanes);
  for (int64_t k = 0; k < kLanes; ++k) p[k] = to_f16(lanes[k]);
#else
  const hn::Rebind<hwy::float16_t, DF> d16;
  hn::StoreU(hn::BitCast(DU16(), hn::DemoteTo(d16, v)), DU16(), reinterpret_cast<uint16_t*>(p));
#endif
}
HWY_INLINE void store(VF v, bf16* p) {
  const auto bits = hn::BitCast(DU(), v);
  const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(DU(), 1U));
  const auto rounded = hn::ShiftRight<16>(hn::Add(hn::Add(bits, hn::Set(DU(), 0x7FFFU)), odd));
  const auto quiet = hn::Or(hn::ShiftRight<16>(bits), hn::Set(DU(), 0x40U));
  const auto nan = hn::RebindMask(DU(), hn::IsNaN(v));
  const auto narrow = hn::DemoteTo(DU16(), hn::BitCast(DI(), hn::IfThenElse(nan, quiet, rounded)));
  hn::StoreU(narrow, DU16(), reinterpret_cast<uint16_t*>(p));
}
HWY_INLINE void store(VF v, int8_t* p) {
#if HWY_TARGET == HWY_SCALAR
  *p = to_i8(hn::GetLane(v));
#else
  const VF bounded = hn::Min(hn::Max(v, hn::Set(DF(), -128.0F)), hn::Set(DF(), 127.0F));
  const VF number = hn::IfThenZeroElse(hn::IsNaN(v), bounded);
  const hn::Rebind<int8_t, DF> d8;
  hn::StoreU(hn::DemoteTo(d8, hn::NearestInt(number)), d8, p);
#endif
}
// Stores the first n < Lanes lanes; nothing beyond p + n is written.
template <typename T>
HWY_INLINE void store_n(VF v, T* p, int64_t n) {
  T buffer[kLanes];
  store(v, buffer);
  std::memcpy(p, buffer, static_cast<size_t>(n) * sizeof(T));
}

HWY_INLINE float reduce_sum(VF v) { return hn::GetLane(hn::SumOfLanes(DF(), v)); }
HWY_INLINE float reduce_max(VF v) { return hn::GetLane(hn::MaxOfLanes(DF(), v)); }

// 2^x for x <= 127; below -126 it is 0 (no subnormals). Relative error about 1e-7. NaN stays NaN.
HWY_INLINE VF exp2_fast(VF x) {
  const DF d;
  const auto underflow = hn::Lt(x, hn::Set(d, -126.0F));
  const VF clamped = hn::IfThenElse(underflow, hn::Set(d, -126.0F), x);
  // After adding 1.5 * 2^23, a small number is rounded, and its integer value is in the lowest bits.
  const VF magic = hn::Set(d, 12582912.0F);
  const VF shifted = hn::Add(clamped, magic);
  const VF whole = hn::Sub(shifted, magic);
  const VF f = hn::Sub(clamped, whole);  // in [-0.5, 0.5]
  // Taylor series of 2^f = e^(f ln 2): the first omitted term is below 2e-8.
  VF p = hn::Set(d, 1.5403530e-4F);
  p = hn::MulAdd(p, f, hn::Set(d, 1.3333558e-3F));
  p = hn::MulAdd(p, f, hn::Set(d, 9.6181291e-3F));
  p = hn::MulAdd(p, f, hn::Set(d, 5.5504109e-2F));
  p = hn::MulAdd(p, f, hn::Set(d, 2.4022651e-1F));
  p = hn::MulAdd(p, f, hn::Set(d, 6.9314718e-1F));
  p = hn::MulAdd(p, f, hn::Set(d, 1.0F));
  const auto exponent = hn::ShiftLeft<23>(hn::BitCast(DI(), shifted));
  const VF scaled = hn::BitCast(d, hn::Add(hn::BitCast(DI(), p), exponent));
  return hn::IfThenElse(hn::IsNaN(x), x, hn::IfThenZeroElse(underflow, scaled));
}

}  // namespace HWY_NAMESPACE
}  // namespace sepllm
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
