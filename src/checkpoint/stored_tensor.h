// A tensor as a checkpoint stores it, whatever the format of its file: it connects those formats
// (safetensors.h) with the code that uses weights.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/dtype.h"

namespace sepllm {

struct StoredTensor {
  std::string name{};
  std::string dtype{};           // as the file's format writes it ("F32", "I64", "U8"): for messages
  std::optional<DType> type{};   // of its elements; nullopt: not one of our types
  std::vector<int64_t> shape{};  // in elements
  const char* data = nullptr;    // in the mapped file; may be unaligned
  int64_t bytes = 0;
  std::string file{};  // its path
};

}  // namespace sepllm
