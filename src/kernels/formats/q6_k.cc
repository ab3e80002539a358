// q6_k: 16 groups of 16; element = (d * scale) * (value - 32), with a scale of 8 bits of each group. 128
// elements have 64 bytes of nibbles (the low four bits of elements 0 to 63, then, in the high halves, of 64
// to 127) and 32 bytes of the high two bits, which lie as in q2_k.
#include <cstdint>

#include "kernels/formats/stored_format.h"

namespace sepllm {
namespace {

struct BlockQ6K {
  uint8_t nibbles[128];
  uint8_t pairs[64];
  int8_t scales[16];
  f16 d;
};
static_assert(sizeof(BlockQ6K) == 210);

void dequantize_q6_k(const void* block, float* to) {
  const auto b = load_block<BlockQ6K>(block);
  for (int64_t g = 0; g < 16; ++g, to += 16) {
    const float scale = to_float(b.d) * static_cast<float>(b.scales[g]);
    const uint8_t* nibbles = b.nibbles + g / 8 * 64 + g % 4 * 16;
    const uint8_t* pairs = b.pairs + g / 8 * 32 + g % 2 * 16;
    for (int64_t i = 0; i < 16; ++i) {
      const int low = (nibbles[i] >> (g % 8 / 4 * 4)) & 15;
      const int high = (pairs[i] >> (g % 8 / 2 * 2)) & 3;
      to[i] = scale * static_cast<float>((low | high << 4) - 32);
    }
  }
}

}  // namespace

extern const StoredFormat kStoredQ6_K;
const StoredFormat kStoredQ6_K = {
    .type = DType::kQ6_K, .dequantize = dequantize_q6_k, .is_finite = scale_is_finite<BlockQ6K>};

}  // namespace sepllm
