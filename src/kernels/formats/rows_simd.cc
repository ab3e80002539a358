#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/formats/rows_simd.cc"
#include <hwy/foreach_target.h>  // must come first

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "base/check.h"
#include "kernels/formats/rows.h"
#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sepllm {
namespace HWY_NAMESPACE {
namespace {

template <bool kAdd, typename T>
void convert_in(const T* from, int64_t n, float* to) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const VF v = load(from + i);
    store(kAdd ? hn::Add(v, load(to + i)) : v, to + i);
  }
  if (i < n) {
    const VF v = load_n(from + i, n - i);
    store_n(kAdd ? hn::Add(v, load_n(to + i, n - i)) : v, to + i, n - i);
  }
}

// (Of files only, and read once.)
template <bool kAdd>
void convert_doubles(const void* from, int64_t n, float* to) {
  for (int64_t i = 0; i < n; ++i) {
    double value;
    std::memcpy(&value, static_cast<const char*>(from) + i * static_cast<int64_t>(sizeof value),
                sizeof value);
    to[i] = static_cast<float>(kAdd ? value + static_cast<double>(to[i]) : value);
  }
}

template <bool kAdd>
void convert_in_any(DType type, const void* from, int64_t n, float* to) {
  switch (type) {
    case DType::kF32:
      return convert_in<kAdd>(static_cast<const float*>(from), n, to);
    case DType::kF16:
      return convert_in<kAdd>(static_cast<const f16*>(from), n, to);
    case DType::kBF16:
      return convert_in<kAdd>(static_cast<const bf16*>(from), n, to);
    case DType::kI8:
      return convert_in<kAdd>(static_cast<const int8_t*>(from), n, to);
    case DType::kF64:
      return convert_doubles<kAdd>(from, n, to);
    default:
      break;  // refused below
  }
}

template <typename T>
void convert_out(const float* from, int64_t n, T* to) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(load(from + i), to + i);
  if (i < n) store_n(load_n(from + i, n - i), to + i, n - i);
}

void ConvertToF32(DType type, const void* from, int64_t n, float* to) {
  convert_in_any<false>(type, from, n, to);
}
void AddConverted(DType type, const void* from, int64_t n, float* to) {
  convert_in_any<true>(type, from, n, to);
}
void ConvertFromF32(DType type, const float* from, int64_t n, void* to) {
  switch (type) {
    case DType::kF32:
      return convert_out(from, n, static_cast<float*>(to));
    case DType::kF16:
      return convert_out(from, n, static_cast<f16*>(to));
    case DType::kBF16:
      return convert_out(from, n, static_cast<bf16*>(to));
    case DType::kI8:
      return convert_out(from, n, static_cast<int8_t*>(to));
    default:
      break;  // refused below
  }
}

float QuantizeRow(const float* from, int64_t n, int8_t* to) {
  VF most = hn::Zero(DF());
  VF poison = hn::Zero(DF());  // becomes NaN with the first NaN or infinity
  const auto take = [&](VF v) HWY_ATTR {
    most = hn::Max(most, hn::Abs(v));
    poison = hn::MulAdd(v, hn::Zero(DF()), poison);
  };
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) take(load(from + i));
  if (i < n) take(load_n(from + i, n - i));
  const float largest = reduce_max(most);
  const float finite = reduce_sum(poison);
  if (finite != 0.0F || largest < 0x1p-100F) {
    std::fill_n(to, n, int8_t{0});
    return finite != 0.0F ? finite : 0.0F;
  }
  const VF inverse = hn::Set(DF(), 127.0F / largest);
  for (i = 0; i + kLanes <= n; i += kLanes) store(hn::Mul(load(from + i), inverse), to + i);
  if (i < n) store_n(hn::Mul(load_n(from + i, n - i), inverse), to + i, n - i);
  return largest / 127.0F;
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace sepllm
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sepllm {
namespace {
HWY_EXPORT(ConvertToF32);
HWY_EXPORT(AddConverted);
HWY_EXPORT(ConvertFromF32);
HWY_EXPORT(QuantizeRow);
}  // namespace

void row_to_f32(DType type, const void* from, int64_t n, float* to) {
  SEPLLM_CHECK(!is_block_type(type));
  HWY_DYNAMIC_DISPATCH(ConvertToF32)(type, from, n, to);
}
void add_row_to_f32(DType type, const void* from, int64_t n, float* to) {
  SEPLLM_CHECK(!is_block_type(type));
  HWY_DYNAMIC_DISPATCH(AddConverted)(type, from, n, to);
}
void row_from_f32(DType type, const float* from, int64_t n, void* to) {
  SEPLLM_CHECK(!is_block_type(type) && type != DType::kF64);
  HWY_DYNAMIC_DISPATCH(ConvertFromF32)(type, from, n, to);
}
float quantize_row(const float* from, int64_t n, int8_t* to) {
  return HWY_DYNAMIC_DISPATCH(QuantizeRow)(from, n, to);
}

}  // namespace sepllm
#endif  // HWY_ONCE
