#include "kernels/blocks.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/check.h"

namespace sepllm {
namespace {

// The element of largest magnitude; NaN if one is.
float extreme(const float* x, int64_t n) {
  float most = 0.0F;
  for (int64_t k = 0; k < n; ++k) {
    if (std::isnan(x[k])) return x[k];
    if (std::fabs(x[k]) > std::fabs(most)) most = x[k];
  }
  return most;
}

float inverse(float scale) { return scale != 0.0F && std::isfinite(scale) ? 1.0F / scale : 0.0F; }

// Halves away from zero, as GGUF's writers round; |x| <= 127.
int8_t nearest(float x) {
  const int whole = static_cast<int>(x);
  const float rest = x - static_cast<float>(whole);
  return static_cast<int8_t>(whole + (rest >= 0.5F ? 1 : 0) - (rest <= -0.5F ? 1 : 0));
}

BlockQ8 quantize_q8(const float* x, int64_t n) {
  BlockQ8 b{};
  const float scale = std::fabs(extreme(x, n)) / 127.0F;
  b.scale = to_f16(scale);
  const float by = inverse(scale);
  for (int64_t k = 0; k < n && by != 0.0F; ++k) b.values[k] = nearest(x[k] * by);
  return b;
}

BlockQ4 quantize_q4(const float* x, int64_t n) {
  BlockQ4 b{};
  const float scale = extreme(x, n) / -8.0F;
  b.scale = to_f16(scale);
  const float by = inverse(scale);
  for (int64_t k = 0; k < kBlockElements; ++k) {
    const float v = k < n ? x[k] * by : 0.0F;
    const auto nibble = static_cast<uint8_t>(std::clamp(static_cast<int>(v + 8.5F), 0, 15));
    b.nibbles[k % 16] = static_cast<uint8_t>(b.nibbles[k % 16] | (nibble << (k < 16 ? 0 : 4)));
  }
  return b;
}

float value_of(const BlockQ8& b, int64_t k) { return to_float(b.scale) * b.values[k]; }
float value_of(const BlockQ4& b, int64_t k) {
  const int nibble = (b.nibbles[k % 16] >> (k < 16 ? 0 : 4)) & 15;
  return to_float(b.scale) * static_cast<float>(nibble - 8);
}

template <typename Block>
void dequantize(const void* from, int64_t n, float* to) {
  for (int64_t k = 0; k < n; k += kBlockElements) {
    Block b;
    std::memcpy(&b, static_cast<const char*>(from) + k / kBlockElements * static_cast<int64_t>(sizeof(b)),
                sizeof(b));
    for (int64_t i = 0; i < std::min(kBlockElements, n - k); ++i) to[k + i] = value_of(b, i);
  }
}

}  // namespace

void quantize_blocks(DType type, const float* from, int64_t n, void* to) {
  SEPLLM_CHECK(is_block_type(type));
  auto* out = static_cast<char*>(to);
  for (int64_t k = 0; k < n; k += kBlockElements, out += block_bytes(type)) {
    const int64_t count = std::min(kBlockElements, n - k);
    if (type == DType::kQ8_0) {
      const BlockQ8 b = quantize_q8(from + k, count);
      std::memcpy(out, &b, sizeof(b));
    } else {
      const BlockQ4 b = quantize_q4(from + k, count);
      std::memcpy(out, &b, sizeof(b));
    }
  }
}

void dequantize_blocks(DType type, const void* from, int64_t n, float* to) {
  SEPLLM_CHECK(is_block_type(type));
  return type == DType::kQ8_0 ? dequantize<BlockQ8>(from, n, to) : dequantize<BlockQ4>(from, n, to);
}

int64_t find_bad_block(DType type, const void* from, int64_t n_blocks) {
  SEPLLM_CHECK(is_block_type(type));
  for (int64_t k = 0; k < n_blocks; ++k) {
    f16 scale;
    std::memcpy(&scale, static_cast<const char*>(from) + k * block_bytes(type), sizeof(scale));
    if (!std::isfinite(to_float(scale))) return k;
  }
  return -1;
}

}  // namespace sepllm
