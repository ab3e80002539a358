// The types of tensors in GGUF files. (ggml.h, enum ggml_type)
#pragma once

#include <cstdint>
#include <optional>

#include "base/dtype.h"

namespace sepllm {

struct GgufTensorType {
  uint32_t number;
  const char* name;           // "Q4_K"
  int64_t elements;           // of a block; 1: no blocks
  int64_t bytes;              // of a block
  std::optional<DType> type;  // none: not one of ours
};

// Null for a number that no file may have: unknown, withdrawn, or of a type that files do not hold.
const GgufTensorType* gguf_tensor_type(uint32_t number);
// Null for a type of ours that GGUF does not have.
const GgufTensorType* gguf_tensor_type(DType type);

}  // namespace sepllm
