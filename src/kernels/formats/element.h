// One element of a stored array, by its type: for references, tests and edges; kernels have vector forms.
#pragma once

#include <cstdint>

#include "base/dtype.h"

namespace sepllm {

inline float load_element(DType type, const void* data, int64_t i) {
  switch (type) {
    case DType::kF16:
      return to_float(static_cast<const f16*>(data)[i]);
    case DType::kBF16:
      return to_float(static_cast<const bf16*>(data)[i]);
    case DType::kI8:  // without its row's scale
      return to_float(static_cast<const int8_t*>(data)[i]);
    default:  // f32; blocks have no single elements (kernels/formats/format.h)
      break;
  }
  return static_cast<const float*>(data)[i];
}

inline void store_element(DType type, void* data, int64_t i, float value) {
  switch (type) {
    case DType::kF16:
      static_cast<f16*>(data)[i] = to_f16(value);
      return;
    case DType::kBF16:
      static_cast<bf16*>(data)[i] = to_bf16(value);
      return;
    case DType::kI8:
      static_cast<int8_t*>(data)[i] = to_i8(value);
      return;
    case DType::kF32:
      static_cast<float*>(data)[i] = value;
      return;
    default:  // blocks
      return;
  }
}

// The place of element i of an array of `type`.
inline const void* element_at(DType type, const void* data, int64_t i) {
  return static_cast<const char*>(data) + i * dtype_size(type);
}
inline void* element_at(DType type, void* data, int64_t i) {
  return static_cast<char*>(data) + i * dtype_size(type);
}

}  // namespace sepllm
