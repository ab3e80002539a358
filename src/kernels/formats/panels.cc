#include "kernels/formats/panels.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "kernels/formats/blocks.h"

namespace sepllm {
namespace {

const char* panel_of(const Weight& w, int64_t output) {
  return static_cast<const char*>(w.data) + output / kPanelOutputs * panel_bytes(w.type, w.n_in);
}

// Byte of a pair that holds element k in [0, 64) of lane `lane`.
int64_t byte_of(DType type, int64_t k, int64_t lane) {
  const int64_t in_line = type == DType::kQ8_0 ? k : k % kBlockElements;
  return in_line / 4 * 64 + lane * 4 + in_line % 4;
}

int64_t scale_of(DType type, int64_t block, int64_t lane) {
  return pair_bytes(type) - 64 + block * 32 + lane * 2;
}

// What a pair's bytes hold of an element: the unsigned value.
int read(DType type, const char* pair, int64_t k, int64_t lane) {
  const auto byte = static_cast<uint8_t>(pair[byte_of(type, k, lane)]);
  if (type == DType::kQ8_0) return byte;
  return k < kBlockElements ? byte & 15 : byte >> 4;
}

float read_scale(DType type, const char* pair, int64_t block, int64_t lane) {
  f16 scale;
  std::memcpy(&scale, pair + scale_of(type, block, lane), sizeof(scale));
  return to_float(scale);
}

void pack_q8(const BlockQ8& b, int64_t block, int64_t lane, char* pair) {
  for (int64_t k = 0; k < kBlockElements; ++k) {
    pair[byte_of(DType::kQ8_0, block * kBlockElements + k, lane)] = static_cast<char>(b.values[k] + 128);
  }
}

void pack_q4(const BlockQ4& b, int64_t block, int64_t lane, char* pair) {
  for (int64_t k = 0; k < kBlockElements; ++k) {
    const int nibble = (b.nibbles[k % 16] >> (k < 16 ? 0 : 4)) & 15;
    char& byte = pair[byte_of(DType::kQ4_0, k, lane)];
    byte = static_cast<char>(static_cast<uint8_t>(byte) | (nibble << (4 * block)));
  }
}

}  // namespace

void pack_panel(DType type, const void* const* rows, int64_t n_rows, int64_t n_in, void* panel) {
  SEPLLM_CHECK(is_block_type(type) && n_rows >= 1 && n_rows <= kPanelOutputs);
  auto* out = static_cast<char*>(panel);
  // Bytes that mean zero where there is no output or no input.
  std::memset(out, 0, static_cast<size_t>(panel_bytes(type, n_in)));
  const int64_t n_blocks = (n_in + kBlockElements - 1) / kBlockElements;
  for (int64_t lane = 0; lane < n_rows; ++lane) {
    const auto* row = static_cast<const char*>(rows[lane]);
    for (int64_t b = 0; b < n_blocks; ++b) {
      const char* block = row + b * block_bytes(type);
      char* pair = out + b / 2 * pair_bytes(type);
      std::memcpy(pair + scale_of(type, b % 2, lane), block, sizeof(f16));
      if (type == DType::kQ8_0) {
        BlockQ8 q8;
        std::memcpy(&q8, block, sizeof(q8));
        pack_q8(q8, b % 2, lane, pair);
      } else {
        BlockQ4 q4;
        std::memcpy(&q4, block, sizeof(q4));
        pack_q4(q4, b % 2, lane, pair);
      }
    }
  }
}

void unpack_blocks(const Weight& w, int64_t output, void* blocks) {
  SEPLLM_CHECK(is_block_type(w.type) && output >= 0 && output < w.n_out);
  const int64_t lane = output % kPanelOutputs;
  auto* out = static_cast<char*>(blocks);
  for (int64_t b = 0; b * kBlockElements < w.n_in; ++b, out += block_bytes(w.type)) {
    const char* pair = panel_of(w, output) + b / 2 * pair_bytes(w.type);
    std::memcpy(out, pair + scale_of(w.type, b % 2, lane), sizeof(f16));
    int values[kBlockElements];
    for (int64_t k = 0; k < kBlockElements; ++k)
      values[k] = read(w.type, pair, b % 2 * kBlockElements + k, lane);
    for (int64_t k = 0; k < block_bytes(w.type) - 2; ++k) {
      out[2 + k] =
          static_cast<char>(w.type == DType::kQ8_0 ? values[k] - 128 : values[k] | values[k + 16] << 4);
    }
  }
}

void panel_row_to_f32(const Weight& w, int64_t output, int64_t first, int64_t n, float* to) {
  SEPLLM_CHECK(is_block_type(w.type) && output >= 0 && output < w.n_out && first >= 0 && first + n <= w.n_in);
  const char* panel = panel_of(w, output);
  const int64_t lane = output % kPanelOutputs;
  const int zero = panel_zero(w.type);
  // A block at a time, whose bytes have a shift and a mask in common.
  for (int64_t i = 0; i < n;) {
    const int64_t block = (first + i) / kBlockElements, k = (first + i) % kBlockElements;
    const int64_t count = std::min(kBlockElements - k, n - i);
    const char* pair = panel + block / 2 * pair_bytes(w.type);
    const float scale = read_scale(w.type, pair, block % 2, lane);
    const bool q8 = w.type == DType::kQ8_0;
    const char* bytes = pair + byte_of(w.type, q8 ? block % 2 * kBlockElements : 0, lane);
    const int shift = q8 ? 0 : static_cast<int>(block % 2 * 4), mask = q8 ? 255 : 15;
    for (int64_t e = k; e < k + count; ++e, ++i) {
      const int value = (static_cast<uint8_t>(bytes[e / 4 * 64 + e % 4]) >> shift & mask) - zero;
      to[i] = scale * static_cast<float>(value);
    }
  }
}

}  // namespace sepllm
