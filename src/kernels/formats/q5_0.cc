// q5_0: element[k] = d * (value[k] - 16); the low four bits of a value are nibbles as in q4_0, the fifth is
// bit k of `high`.
#include <cstdint>

#include "kernels/formats/stored_format.h"

namespace sepllm {
namespace {

struct BlockQ5_0 {
  f16 d;
  uint8_t high[4];
  uint8_t nibbles[16];
};
static_assert(sizeof(BlockQ5_0) == 22);

void dequantize_q5_0(const void* block, float* to) {
  const auto b = load_block<BlockQ5_0>(block);
  const float d = to_float(b.d);
  for (int64_t k = 0; k < 16; ++k) {
    const int low = (b.nibbles[k] & 15) | bit_at(b.high, k) << 4;
    const int high = (b.nibbles[k] >> 4) | bit_at(b.high, k + 16) << 4;
    to[k] = d * static_cast<float>(low - 16);
    to[k + 16] = d * static_cast<float>(high - 16);
  }
}

}  // namespace

extern const StoredFormat kStoredQ5_0;
const StoredFormat kStoredQ5_0 = {
    .type = DType::kQ5_0, .dequantize = dequantize_q5_0, .is_finite = scale_is_finite<BlockQ5_0>};

}  // namespace sepllm
