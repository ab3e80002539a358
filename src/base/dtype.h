// Element types of weights and caches, and their conversions one by one (kernels have their own vector
// forms).
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

namespace sepllm {

// The types of weights that are stored as blocks: enumerator, name, elements of a block, bytes of a block. A
// new format is one line at the end of this list and one file in kernels/formats/ (format.h).
#define SEPLLM_BLOCK_TYPES(X) \
  X(Q8_0, "q8_0", 32, 34)     \
  X(Q4_0, "q4_0", 32, 18)

// Types of blocks that are multiplied as files store them, but to which nothing is rounded. The same four
// columns; one file in kernels/formats/ (format.h), whose format has no quantize().
#define SEPLLM_KEPT_BLOCK_TYPES(X) \
  X(Q4_1, "q4_1", 32, 20)          \
  X(Q5_0, "q5_0", 32, 22)          \
  X(Q4_K, "q4_k", 256, 144)        \
  X(Q5_K, "q5_k", 256, 176)        \
  X(Q6_K, "q6_k", 256, 210)

// Types of blocks in which files store weights and which no kernel multiplies: they are converted as they are
// loaded. The same four columns. Such a type is one line here and one file in kernels/formats/
// (stored_format.h).
#define SEPLLM_STORED_BLOCK_TYPES(X) \
  X(Q5_1, "q5_1", 32, 24)            \
  X(Q2_K, "q2_k", 256, 84)           \
  X(Q3_K, "q3_k", 256, 110)          \
  X(IQ4_NL, "iq4_nl", 32, 18)

// kI8: integers; what uses them keeps a scale next to each row (value = scale * element). A type of cached
// keys and values, not of weights. The block types are types of weights only. kF64 and those behind it: types
// of weights in files only; all but the kept types are converted as they are loaded. (Fingerprints of models
// contain the numbers of those that are multiplied.)
#define SEPLLM_ENUMERATOR(NAME, ...) k##NAME,
enum class DType : uint8_t {
  kF32,
  kF16,
  kBF16,
  kI8,
  SEPLLM_BLOCK_TYPES(SEPLLM_ENUMERATOR) kF64,
  SEPLLM_KEPT_BLOCK_TYPES(SEPLLM_ENUMERATOR) SEPLLM_STORED_BLOCK_TYPES(SEPLLM_ENUMERATOR)
};
#undef SEPLLM_ENUMERATOR

// The block types to which weights are rounded; all that are multiplied (in panels:
// kernels/formats/panels.h); and those that are only stored, for what loops over them.
#define SEPLLM_TYPE(NAME, ...) DType::k##NAME,
inline constexpr DType kBlockTypes[] = {SEPLLM_BLOCK_TYPES(SEPLLM_TYPE)};
inline constexpr DType kPanelTypes[] = {SEPLLM_BLOCK_TYPES(SEPLLM_TYPE) SEPLLM_KEPT_BLOCK_TYPES(SEPLLM_TYPE)};
inline constexpr DType kStoredBlockTypes[] = {SEPLLM_STORED_BLOCK_TYPES(SEPLLM_TYPE)};
#undef SEPLLM_TYPE

struct DTypeInfo {
  DType type;
  const char* name;
  int64_t elements;  // of a block; 1: no blocks
  int64_t bytes;     // of a block
};
// By the enumerator's value.
#define SEPLLM_INFO(NAME, TEXT, ELEMENTS, BYTES) {DType::k##NAME, TEXT, ELEMENTS, BYTES},
inline constexpr DTypeInfo kDTypeInfos[] = {{DType::kF32, "f32", 1, 4},
                                            {DType::kF16, "f16", 1, 2},
                                            {DType::kBF16, "bf16", 1, 2},
                                            {DType::kI8, "i8", 1, 1},
                                            SEPLLM_BLOCK_TYPES(SEPLLM_INFO){DType::kF64, "f64", 1, 8},
                                            SEPLLM_KEPT_BLOCK_TYPES(SEPLLM_INFO)
                                                SEPLLM_STORED_BLOCK_TYPES(SEPLLM_INFO)};
#undef SEPLLM_INFO
inline const DTypeInfo& dtype_info(DType type) { return kDTypeInfos[static_cast<size_t>(type)]; }
inline const char* dtype_name(DType type) { return dtype_info(type).name; }

inline bool is_block_type(DType type) { return dtype_info(type).elements > 1; }  // stored only, too
// Whether weights can be converted to this type: what a user may choose.
inline bool is_weight_type(DType type) { return type != DType::kI8 && type < DType::kF64; }
// Whether matrices of this block type are multiplied, in panels.
inline bool has_panels(DType type) {
  for (const DType t : kPanelTypes) {
    if (t == type) return true;
  }
  return false;
}
// Bytes of an element; not for block types (0).
inline int64_t dtype_size(DType type) { return is_block_type(type) ? 0 : dtype_info(type).bytes; }
// Elements and bytes of a block; 1 element where there are no blocks.
inline int64_t block_elements(DType type) { return dtype_info(type).elements; }
inline int64_t block_bytes(DType type) { return dtype_info(type).bytes; }
// Blocks of a row of n elements; the last one may be partly filled (with zeros).
inline int64_t blocks_of_row(DType type, int64_t n) {
  return (n + block_elements(type) - 1) / block_elements(type);
}
// Bytes of a stored row of n elements.
inline int64_t row_bytes(DType type, int64_t n) { return blocks_of_row(type, n) * block_bytes(type); }

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
