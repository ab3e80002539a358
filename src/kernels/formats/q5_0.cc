// q5_0: element[k] = d * (value[k] - 16); the low four bits of a value are nibbles as in q4_0, the fifth is
// bit k of `high`.
#include <cstdint>
#include <cstring>

#include "kernels/formats/format.h"
#include "kernels/formats/stored_format.h"

namespace sepllm {
namespace {

struct BlockQ5_0 {
  f16 d;
  uint8_t high[4];
  uint8_t nibbles[16];
};
static_assert(sizeof(BlockQ5_0) == 22);

void decode_q5_0(const void* block, Quanta* groups) {
  const auto b = load_block<BlockQ5_0>(block);
  groups->scale = b.d;
  for (int64_t k = 0; k < 16; ++k) {
    groups->values[k] = static_cast<uint8_t>((b.nibbles[k] & 15) | bit_at(b.high, k) << 4);
    groups->values[k + 16] = static_cast<uint8_t>((b.nibbles[k] >> 4) | bit_at(b.high, k + 16) << 4);
  }
}

void encode_q5_0(const Quanta* groups, void* block) {
  BlockQ5_0 b{groups->scale, {}, {}};
  const uint8_t* values = groups->values;
  for (int64_t k = 0; k < 16; ++k)
    b.nibbles[k] = static_cast<uint8_t>((values[k] & 15) | (values[k + 16] & 15) << 4);
  for (int64_t k = 0; k < 32; ++k) b.high[k / 8] |= static_cast<uint8_t>((values[k] >> 4) << (k % 8));
  std::memcpy(block, &b, sizeof(b));
}

}  // namespace

extern const BlockFormat kFormatQ5_0;
const BlockFormat kFormatQ5_0 = {.type = DType::kQ5_0,
                                 .panel = FiveBitPanel::kForm,
                                 .low = -16,
                                 .high = 15,
                                 .quantize = nullptr,
                                 .decode = decode_q5_0,
                                 .encode = encode_q5_0,
                                 .is_finite = scale_is_finite<BlockQ5_0>};

}  // namespace sepllm
