// A tensor as a checkpoint stores it, whatever the format of its file: what stands between those formats
// (safetensors.h) and all that uses weights.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/dtype.h"

namespace sepllm {

struct StoredTensor {
  std::string name{};
  std::string dtype{};           // in the words of the file's format ("F32", "I64", "U8"): for messages
  std::optional<DType> type{};   // of its elements; none: not one of ours
  std::vector<int64_t> shape{};  // in elements
  const char* data = nullptr;    // in the mapped file, with no alignment to rely on
  int64_t bytes = 0;
  std::string file{};  // its path
};

}  // namespace sepllm
