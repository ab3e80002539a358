// iq4_nl: element[k] = d * kLevels[nibble[k]]; the nibbles lie as in q4_0.
#include <cstdint>

#include "kernels/formats/stored_format.h"

namespace sepllm {
namespace {

struct BlockIq4Nl {
  f16 d;
  uint8_t nibbles[16];
};
static_assert(sizeof(BlockIq4Nl) == 18);

constexpr float kLevels[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

void dequantize_iq4_nl(const void* block, float* to) {
  const auto b = load_block<BlockIq4Nl>(block);
  const float d = to_float(b.d);
  for (int64_t k = 0; k < 16; ++k) {
    to[k] = d * kLevels[b.nibbles[k] & 15];
    to[k + 16] = d * kLevels[b.nibbles[k] >> 4];
  }
}

}  // namespace

extern const StoredFormat kStoredIQ4_NL;
const StoredFormat kStoredIQ4_NL = {
    .type = DType::kIQ4_NL, .dequantize = dequantize_iq4_nl, .is_finite = scale_is_finite<BlockIq4Nl>};

}  // namespace sepllm
