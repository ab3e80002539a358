// q4_1: element[k] = d * nibble[k] + m; nibble k < 16 is the low half of nibbles[k], k >= 16 the high half of
// nibbles[k - 16].
#include <cstdint>
#include <cstring>

#include "kernels/formats/format.h"
#include "kernels/formats/stored_format.h"

namespace sepllm {
namespace {

struct BlockQ4_1 {
  f16 d, m;
  uint8_t nibbles[16];
};
static_assert(sizeof(BlockQ4_1) == 20);

void decode_q4_1(const void* block, Quanta* groups) {
  const auto b = load_block<BlockQ4_1>(block);
  groups->scale = b.d;
  groups->minimum = b.m;
  for (int64_t k = 0; k < 16; ++k) {
    groups->values[k] = b.nibbles[k] & 15;
    groups->values[k + 16] = b.nibbles[k] >> 4;
  }
}

void encode_q4_1(const Quanta* groups, void* block) {
  BlockQ4_1 b{groups->scale, groups->minimum, {}};
  for (int64_t k = 0; k < 16; ++k)
    b.nibbles[k] = static_cast<uint8_t>(groups->values[k] | groups->values[k + 16] << 4);
  std::memcpy(block, &b, sizeof(b));
}

}  // namespace

extern const BlockFormat kFormatQ4_1;
const BlockFormat kFormatQ4_1 = {.type = DType::kQ4_1,
                                 .panel = NibbleMinimaPanel::kForm,
                                 .low = 0,
                                 .high = 15,
                                 .quantize = nullptr,
                                 .decode = decode_q4_1,
                                 .encode = encode_q4_1,
                                 .is_finite = scales_are_finite<BlockQ4_1>};

}  // namespace sepllm
