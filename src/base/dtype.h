// Element types of weights and caches, and their conversions one by one (kernels have their own vector
// forms).
#pragma once

#include <bit>
#include <cstdint>
#include <string>

namespace sepllm {

// kI8: integers; what uses them keeps a scale beside each row (value = scale * element). A type of cached
// keys and values, not of weights. kQ8_0 and kQ4_0: blocks of 32 elements with one f16 scale (GGUF's; see
// kernels/formats/blocks.h). Types of weights alone. kF64: a type of stored weights, which are converted as
// they are loaded.
enum class DType : uint8_t { kF32, kF16, kBF16, kI8, kQ8_0, kQ4_0, kF64 };

inline constexpr int64_t kBlockElements = 32;
inline bool is_block_type(DType type) { return type == DType::kQ8_0 || type == DType::kQ4_0; }
// Bytes of an element; not for block types (0).
inline int64_t dtype_size(DType type) {
  if (type == DType::kF64) return 8;
  return type == DType::kF32 ? 4 : type == DType::kI8 ? 1 : is_block_type(type) ? 0 : 2;
}
// Bytes of a block; block types only.
inline int64_t block_bytes(DType type) { return type == DType::kQ8_0 ? 34 : 18; }
// Bytes of a stored row of n elements; blocks: the last one may be partly filled (with zeros).
inline int64_t row_bytes(DType type, int64_t n) {
  return is_block_type(type) ? (n + kBlockElements - 1) / kBlockElements * block_bytes(type)
                             : n * dtype_size(type);
}
const char* dtype_name(DType type);  // "f32", "f16", "bf16", "i8", "q8_0", "q4_0", "f64"

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
