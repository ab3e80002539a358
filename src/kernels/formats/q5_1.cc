// q5_1: element[k] = d * value[k] + m; the low four bits of a value are nibbles as in q4_0, the fifth is bit
// k of `high`.
#include <cstdint>

#include "kernels/formats/stored_format.h"

namespace sepllm {
namespace {

struct BlockQ5_1 {
  f16 d, m;
  uint8_t high[4];
  uint8_t nibbles[16];
};
static_assert(sizeof(BlockQ5_1) == 24);

void dequantize_q5_1(const void* block, float* to) {
  const auto b = load_block<BlockQ5_1>(block);
  const float d = to_float(b.d), m = to_float(b.m);
  for (int64_t k = 0; k < 16; ++k) {
    const int low = (b.nibbles[k] & 15) | bit_at(b.high, k) << 4;
    const int high = (b.nibbles[k] >> 4) | bit_at(b.high, k + 16) << 4;
    to[k] = d * static_cast<float>(low) + m;
    to[k + 16] = d * static_cast<float>(high) + m;
  }
}

}  // namespace

extern const StoredFormat kStoredQ5_1;
const StoredFormat kStoredQ5_1 = {
    .type = DType::kQ5_1, .dequantize = dequantize_q5_1, .is_finite = scales_are_finite<BlockQ5_1>};

}  // namespace sepllm
