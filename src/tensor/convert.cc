#include "tensor/convert.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace sepllm {
namespace {

template <typename T>
T load(const void* data, int64_t i) {
  T value;
  std::memcpy(&value, static_cast<const char*>(data) + i * static_cast<int64_t>(sizeof(T)), sizeof(T));
  return value;
}

template <typename T>
void to_f32(const void* data, int64_t n, float* out) {
  for (int64_t i = 0; i < n; ++i) out[i] = to_float(load<T>(data, i));
}

template <typename T, typename Convert>
void from_f32(const float* data, int64_t n, void* out, Convert convert) {
  for (int64_t i = 0; i < n; ++i) {
    const T value = convert(data[i]);
    std::memcpy(static_cast<char*>(out) + i * static_cast<int64_t>(sizeof(T)), &value, sizeof(T));
  }
}

}  // namespace

void convert_to_f32(DType type, const void* data, int64_t n, float* out) {
  switch (type) {
    case DType::kF32:
      if (n > 0) std::memcpy(out, data, static_cast<size_t>(n) * sizeof(float));
      return;
    case DType::kF16:
      return to_f32<f16>(data, n, out);
    case DType::kBF16:
      return to_f32<bf16>(data, n, out);
  }
}

void convert_from_f32(const float* data, int64_t n, DType type, void* out) {
  switch (type) {
    case DType::kF32:
      if (n > 0) std::memcpy(out, data, static_cast<size_t>(n) * sizeof(float));
      return;
    case DType::kF16:
      return from_f32<f16>(data, n, out, to_f16);
    case DType::kBF16:
      return from_f32<bf16>(data, n, out, to_bf16);
  }
}

int64_t find_non_finite(DType type, const void* data, int64_t n) {
  constexpr int64_t kBlock = 1024;
  float block[kBlock];
  for (int64_t start = 0; start < n; start += kBlock) {
    const int64_t count = std::min(kBlock, n - start);
    convert_to_f32(type, static_cast<const char*>(data) + start * dtype_size(type), count, block);
    for (int64_t i = 0; i < count; ++i) {
      if (!std::isfinite(block[i])) return start + i;
    }
  }
  return -1;
}

}  // namespace sepllm
