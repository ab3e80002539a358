// Element types of weights and caches, and their conversions one by one (kernels have their own vector
// forms).
#pragma once

#include <bit>
#include <cstdint>
#include <string>

namespace sepllm {

// kI8: integers; what uses them keeps a scale beside each row (value = scale * element). A type of cached
// keys and values, not of weights.
enum class DType : uint8_t { kF32, kF16, kBF16, kI8 };

inline int64_t dtype_size(DType type) { return type == DType::kF32 ? 4 : type == DType::kI8 ? 1 : 2; }
const char* dtype_name(DType type);  // "f32", "f16", "bf16", "i8"

struct f16 {
  uint16_t bits;
};
struct bf16 {
  uint16_t bits;
};

float to_float(f16 value);
inline float to_float(bf16 value) { return std::bit_cast<float>(static_cast<uint32_t>(value.bits) << 16); }
inline float to_float(float value) { return value; }
inline float to_float(int8_t value) { return value; }
f16 to_f16(float value);    // round to nearest even; overflow to infinity
bf16 to_bf16(float value);  // round to nearest even; NaN stays NaN
int8_t to_i8(float value);  // round to nearest even, into [-128, 127]; NaN to 0

}  // namespace sepllm
