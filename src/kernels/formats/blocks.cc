#include "kernels/formats/blocks.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/check.h"
#include "kernels/formats/block_scales.h"

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

// What the plain scale is multiplied with in search of a better one; the first is 1.
struct Factors {
  float of[kScaleCandidates];
};
// q8_0: steps that are up to a tenth longer fit some blocks better.
constexpr Factors factors_q8() {
  Factors out{};
  for (int j = 0; j < kScaleCandidates; ++j)
    out.of[j] = 1.0F + 0.1F * static_cast<float>(j) / (kScaleCandidates - 1);
  return out;
}
// q4_0: the largest element at -6 (its opposite then fits in too) to -9 (cut to -8).
constexpr Factors factors_q4() {
  Factors out{{1.0F}};
  for (int j = 1; j < kScaleCandidates; ++j) {
    out.of[j] = 8.0F / (6.0F + 3.0F * static_cast<float>(j - 1) / (kScaleCandidates - 2));
  }
  return out;
}
constexpr Factors kFactorsQ8 = factors_q8(), kFactorsQ4 = factors_q4();

// The f16 scale that leaves the least squares of errors, near `plain`; plain itself where f16 loses digits or
// ends.
f16 best_scale(const float (&x)[kBlockElements], float plain, const Factors& factors, float low, float high) {
  constexpr float kLeast = 0x1p-14F, kMost = 32768.0F;
  if (!(std::fabs(plain) >= kLeast && std::fabs(plain) <= kMost)) return to_f16(plain);
  float errors[kScaleCandidates];
  rounding_errors(x, plain, factors.of, low, high, errors);
  return to_f16(plain * factors.of[std::min_element(errors, errors + kScaleCandidates) - errors]);
}

// x / scale as an integer in [low, high]; 0 where there is no scale.
int quantum(float x, float by, int low, int high) {
  if (by == 0.0F) return 0;
  return static_cast<int>(std::lrintf(std::clamp(x * by, static_cast<float>(low), static_cast<float>(high))));
}

BlockQ8 quantize_block(const float (&x)[kBlockElements], BlockQ8 b) {
  b.scale = best_scale(x, std::fabs(extreme(x, kBlockElements)) / 127.0F, kFactorsQ8, -127.0F, 127.0F);
  const float by = inverse(to_float(b.scale));
  for (int64_t k = 0; k < kBlockElements; ++k)
    b.values[k] = static_cast<int8_t>(quantum(x[k], by, -127, 127));
  return b;
}

BlockQ4 quantize_block(const float (&x)[kBlockElements], BlockQ4 b) {
  b.scale = best_scale(x, extreme(x, kBlockElements) / -8.0F, kFactorsQ4, -8.0F, 7.0F);
  const float by = inverse(to_float(b.scale));
  for (int64_t k = 0; k < kBlockElements; ++k) {
    const int nibble = quantum(x[k], by, -8, 7) + 8;
    b.nibbles[k % 16] = static_cast<uint8_t>(b.nibbles[k % 16] | (nibble << (k < 16 ? 0 : 4)));
  }
  return b;
}

template <typename Block>
void quantize(const float* from, int64_t n, char* to) {
  for (int64_t k = 0; k < n; k += kBlockElements, to += sizeof(Block)) {
    float x[kBlockElements] = {};
    std::copy_n(from + k, std::min(kBlockElements, n - k), x);
    const Block b = quantize_block(x, Block{});
    std::memcpy(to, &b, sizeof(b));
  }
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
  if (type == DType::kQ8_0) return quantize<BlockQ8>(from, n, static_cast<char*>(to));
  quantize<BlockQ4>(from, n, static_cast<char*>(to));
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
