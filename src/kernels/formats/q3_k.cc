// q3_k: 16 groups of 16; element = (d * (scale - 32)) * (value - 4). The low two bits of values lie as in
// q2_k; the third, of the elements of 32 g to 32 g + 31, is bit g of the 32 bytes `high`. The scales have 6
// bits: the low four are the halves of bytes 0 to 7, the high two those of bytes 8 to 11.
#include <cstdint>

#include "kernels/formats/stored_format.h"

namespace sepllm {
namespace {

struct BlockQ3K {
  uint8_t high[32];
  uint8_t pairs[64];
  uint8_t scales[12];
  f16 d;
};
static_assert(sizeof(BlockQ3K) == 110);

int scale_of_q3_k(const uint8_t* scales, int64_t g) {
  const int low = (scales[g % 8] >> (g / 8 * 4)) & 15;
  const int high = (scales[8 + g % 4] >> (g / 4 * 2)) & 3;
  return (low | high << 4) - 32;
}

void dequantize_q3_k(const void* block, float* to) {
  const auto b = load_block<BlockQ3K>(block);
  for (int64_t g = 0; g < 16; ++g, to += 16) {
    const float scale = to_float(b.d) * static_cast<float>(scale_of_q3_k(b.scales, g));
    const uint8_t* pairs = b.pairs + g / 8 * 32 + g % 2 * 16;
    const uint8_t* high = b.high + g % 2 * 16;
    for (int64_t i = 0; i < 16; ++i) {
      const int value = ((pairs[i] >> (g % 8 / 2 * 2)) & 3) | ((high[i] >> (g / 2)) & 1) << 2;
      to[i] = scale * static_cast<float>(value - 4);
    }
  }
}

}  // namespace

extern const StoredFormat kStoredQ3_K;
const StoredFormat kStoredQ3_K = {
    .type = DType::kQ3_K, .dequantize = dequantize_q3_k, .is_finite = scale_is_finite<BlockQ3K>};

}  // namespace sepllm
