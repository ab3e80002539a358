// Element types of weights and caches, and their conversions one by one (kernels have their own vector
// forms).
#pragma once

#include <bit>
#include <cstdint>
#include <string>

namespace sepllm {

enum class DType : uint8_t { kF32, kF16, kBF16 };

inline int64_t dtype_size(DType type) { return type == DType::kF32 ? 4 : 2; }
const char* dtype_name(DType type);  // "f32", "f16", "bf16"

struct f16 {
  uint16_t bits;
};
struct bf16 {
  uint16_t bits;
};

float to_float(f16 value);
inline float to_float(bf16 value) { return std::bit_cast<float>(static_cast<uint32_t>(value.bits) << 16); }
inline float to_float(float value) { return value; }
f16 to_f16(float value);    // round to nearest even; overflow to infinity
bf16 to_bf16(float value);  // round to nearest even; NaN stays NaN

}  // namespace sepllm
