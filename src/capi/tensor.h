// The tensors that C callers describe, checked and as the kernels see them.
#pragma once

#include <sepllm/sepllm.h>

#include <cstdint>

#include "tensor/heads.h"

namespace sepllm::capi {

struct TensorShape {
  int64_t batch = 1, heads = 1, tokens = 1, dim = 1;
};

// Error (kInvalidArgument), naming the tensor, for data that is NULL or not aligned, and for strides that do
// not fit an address. `written`: then different elements must lie at different addresses.
Heads checked_heads(const sepllm_tensor& tensor, const TensorShape& shape, const char* name, bool written);

}  // namespace sepllm::capi
