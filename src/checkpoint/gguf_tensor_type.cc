#include "checkpoint/gguf_tensor_type.h"

#include <cstddef>
#include <cstdint>

namespace sepllm {
namespace {

constexpr GgufTensorType of_ours(uint32_t number, const char* name, DType type) {
  const DTypeInfo& info = kDTypeInfos[static_cast<size_t>(type)];
  return {number, name, info.elements, info.bytes, type};
}

// 4 and 5 (Q4_2, Q4_3), 31 to 33 and 36 to 38 (Q4_0 and IQ4_NL in other orders) were withdrawn; 9 and 15
// (Q8_1, Q8_K) are types of activations, which files do not hold.
constexpr GgufTensorType kTensorTypes[] = {
    of_ours(0, "F32", DType::kF32),
    of_ours(1, "F16", DType::kF16),
    of_ours(2, "Q4_0", DType::kQ4_0),
    of_ours(3, "Q4_1", DType::kQ4_1),
    of_ours(6, "Q5_0", DType::kQ5_0),
    of_ours(7, "Q5_1", DType::kQ5_1),
    of_ours(8, "Q8_0", DType::kQ8_0),
    of_ours(10, "Q2_K", DType::kQ2_K),
    of_ours(11, "Q3_K", DType::kQ3_K),
    of_ours(12, "Q4_K", DType::kQ4_K),
    of_ours(13, "Q5_K", DType::kQ5_K),
    of_ours(14, "Q6_K", DType::kQ6_K),
    {16, "IQ2_XXS", 256, 66, {}},
    {17, "IQ2_XS", 256, 74, {}},
    {18, "IQ3_XXS", 256, 98, {}},
    {19, "IQ1_S", 256, 50, {}},
    of_ours(20, "IQ4_NL", DType::kIQ4_NL),
    {21, "IQ3_S", 256, 110, {}},
    {22, "IQ2_S", 256, 82, {}},
    {23, "IQ4_XS", 256, 136, {}},
    {24, "I8", 1, 1, {}},
    {25, "I16", 1, 2, {}},
    {26, "I32", 1, 4, {}},
    {27, "I64", 1, 8, {}},
    of_ours(28, "F64", DType::kF64),
    {29, "IQ1_M", 256, 56, {}},
    of_ours(30, "BF16", DType::kBF16),
    {34, "TQ1_0", 256, 54, {}},
    {35, "TQ2_0", 256, 66, {}},
    {39, "MXFP4", 32, 17, {}},
    {40, "NVFP4", 64, 36, {}},
    {41, "Q1_0", 128, 18, {}},
};

}  // namespace

const GgufTensorType* gguf_tensor_type(uint32_t number) {
  for (const GgufTensorType& type : kTensorTypes) {
    if (type.number == number) return &type;
  }
  return nullptr;
}

const GgufTensorType* gguf_tensor_type(DType type) {
  for (const GgufTensorType& known : kTensorTypes) {
    if (known.type == type) return &known;
  }
  return nullptr;
}

}  // namespace sepllm
