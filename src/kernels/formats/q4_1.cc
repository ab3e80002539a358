// q4_1: element[k] = d * nibble[k] + m; nibble k < 16 is the low half of nibbles[k], k >= 16 the high half of
// nibbles[k - 16].
#include <cstdint>

#include "kernels/formats/stored_format.h"

namespace sepllm {
namespace {

struct BlockQ4_1 {
  f16 d, m;
  uint8_t nibbles[16];
};
static_assert(sizeof(BlockQ4_1) == 20);

void dequantize_q4_1(const void* block, float* to) {
  const auto b = load_block<BlockQ4_1>(block);
  const float d = to_float(b.d), m = to_float(b.m);
  for (int64_t k = 0; k < 16; ++k) {
    to[k] = d * static_cast<float>(b.nibbles[k] & 15) + m;
    to[k + 16] = d * static_cast<float>(b.nibbles[k] >> 4) + m;
  }
}

}  // namespace

extern const StoredFormat kStoredQ4_1;
const StoredFormat kStoredQ4_1 = {
    .type = DType::kQ4_1, .dequantize = dequantize_q4_1, .is_finite = scales_are_finite<BlockQ4_1>};

}  // namespace sepllm
