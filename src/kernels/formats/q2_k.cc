// q2_k: 16 groups of 16; element = (d * scale) * value - (m * minimum), with a scale and a minimum of 4 bits
// of each group in one byte. 32 bytes hold 128 elements: two bits of each byte for 32 neighbours, from the
// low ones up.
#include <cstdint>

#include "kernels/formats/stored_format.h"

namespace sepllm {
namespace {

struct BlockQ2K {
  uint8_t scales[16];
  uint8_t pairs[64];
  f16 d, m;
};
static_assert(sizeof(BlockQ2K) == 84);

void dequantize_q2_k(const void* block, float* to) {
  const auto b = load_block<BlockQ2K>(block);
  for (int64_t g = 0; g < 16; ++g, to += 16) {
    const float scale = to_float(b.d) * static_cast<float>(b.scales[g] & 15);
    const float minimum = to_float(b.m) * static_cast<float>(b.scales[g] >> 4);
    const uint8_t* pairs = b.pairs + g / 8 * 32 + g % 2 * 16;
    for (int64_t i = 0; i < 16; ++i)
      to[i] = scale * static_cast<float>((pairs[i] >> (g % 8 / 2 * 2)) & 3) - minimum;
  }
}

}  // namespace

extern const StoredFormat kStoredQ2_K;
const StoredFormat kStoredQ2_K = {
    .type = DType::kQ2_K, .dequantize = dequantize_q2_k, .is_finite = scales_are_finite<BlockQ2K>};

}  // namespace sepllm
