// q5_k: as q4_k, with a fifth bit of each value: of the 32 elements of group g, bit g of the 32 bytes `high`.
#include <cstdint>

#include "kernels/formats/k_scales.h"
#include "kernels/formats/stored_format.h"

namespace sepllm {
namespace {

struct BlockQ5K {
  f16 d, m;
  uint8_t scales[12];
  uint8_t high[32];
  uint8_t nibbles[128];
};
static_assert(sizeof(BlockQ5K) == 176);

void dequantize_q5_k(const void* block, float* to) {
  const auto b = load_block<BlockQ5K>(block);
  for (int64_t g = 0; g < 8; ++g, to += 32) {
    const KScale k = k_scale(b.scales, g);
    const float scale = to_float(b.d) * static_cast<float>(k.scale);
    const float minimum = to_float(b.m) * static_cast<float>(k.minimum);
    const uint8_t* nibbles = b.nibbles + g / 2 * 32;
    for (int64_t i = 0; i < 32; ++i) {
      const int value = ((nibbles[i] >> (g % 2 * 4)) & 15) | ((b.high[i] >> g) & 1) << 4;
      to[i] = scale * static_cast<float>(value) - minimum;
    }
  }
}

}  // namespace

extern const StoredFormat kStoredQ5_K;
const StoredFormat kStoredQ5_K = {
    .type = DType::kQ5_K, .dequantize = dequantize_q5_k, .is_finite = scales_are_finite<BlockQ5K>};

}  // namespace sepllm
