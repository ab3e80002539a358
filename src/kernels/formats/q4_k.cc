// q4_k: 8 groups of 32; element = (d * scale) * nibble - (m * minimum), with a scale and a minimum of each
// group (k_scales.h). Of 32 bytes, the low halves are one group and the high halves the next.
#include <cstdint>

#include "kernels/formats/k_scales.h"
#include "kernels/formats/stored_format.h"

namespace sepllm {
namespace {

struct BlockQ4K {
  f16 d, m;
  uint8_t scales[12];
  uint8_t nibbles[128];
};
static_assert(sizeof(BlockQ4K) == 144);

void dequantize_q4_k(const void* block, float* to) {
  const auto b = load_block<BlockQ4K>(block);
  for (int64_t g = 0; g < 8; ++g, to += 32) {
    const KScale k = k_scale(b.scales, g);
    const float scale = to_float(b.d) * static_cast<float>(k.scale);
    const float minimum = to_float(b.m) * static_cast<float>(k.minimum);
    const uint8_t* nibbles = b.nibbles + g / 2 * 32;
    for (int64_t i = 0; i < 32; ++i)
      to[i] = scale * static_cast<float>((nibbles[i] >> (g % 2 * 4)) & 15) - minimum;
  }
}

}  // namespace

extern const StoredFormat kStoredQ4_K;
const StoredFormat kStoredQ4_K = {
    .type = DType::kQ4_K, .dequantize = dequantize_q4_k, .is_finite = scales_are_finite<BlockQ4K>};

}  // namespace sepllm
