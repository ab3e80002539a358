// Views do not own memory; the owner is a mapped file, a buffer or an arena.
#pragma once

#include <cstdint>
#include <vector>

#include "base/dtype.h"
#include "tensor/walk.h"

namespace sepllm {

// A dense row-major tensor as a checkpoint stores it.
struct TensorView {
  DType type = DType::kF32;
  std::vector<int64_t> shape{};
  const void* data = nullptr;  // may be unaligned: safetensors does not guarantee alignment

  int64_t size() const {
    int64_t n = 1;
    for (const int64_t d : shape) n *= d;
    return n;
  }
  bool is_aligned() const {  // aligned to its element
    return reinterpret_cast<uintptr_t>(data) % static_cast<uintptr_t>(dtype_size(type)) == 0;
  }
};

// One weight matrix of a linear map y = W x (+ bias) as it is stored. `linear` sees nothing else: new layouts
// and packed types are added here.
struct Weight {
  DType type = DType::kF32;
  const void* data = nullptr;  // block types: panels (kernels/formats/panels.h), never transposed
  int64_t n_out = 0;
  int64_t n_in = 0;
  int64_t row_stride = 0;   // elements between consecutive stored rows; block types: unused
  bool transposed = false;  // stored as [n_in, n_out] (GPT-2's Conv1D) instead of [n_out, n_in]
  Walk walk{};              // of products with few rows; results do not depend on it
};

}  // namespace sepllm
