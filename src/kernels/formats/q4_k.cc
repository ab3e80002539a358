// q4_k: 8 groups of 32; element = (d * scale) * nibble - (m * minimum), with a scale and a minimum of each
// group (k_scales.h). Of 32 bytes, the low halves are one group and the high halves the next.
#include <cstdint>
#include <cstring>

#include "kernels/formats/format.h"
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

void decode_q4_k(const void* block, Quanta* groups) {
  const auto b = load_block<BlockQ4K>(block);
  for (int64_t g = 0; g < 8; ++g) {
    const KScale k = k_scale(b.scales, g);
    Quanta& group = groups[g];
    group.scale = b.d;
    group.minimum = b.m;
    group.sub_scales[0] = static_cast<uint8_t>(k.scale);
    group.sub_minimum = static_cast<uint8_t>(k.minimum);
    const uint8_t* nibbles = b.nibbles + g / 2 * 32;
    for (int64_t i = 0; i < 32; ++i) group.values[i] = static_cast<uint8_t>((nibbles[i] >> (g % 2 * 4)) & 15);
  }
}

void encode_q4_k(const Quanta* groups, void* block) {
  BlockQ4K b{groups->scale, groups->minimum, {}, {}};
  for (int64_t g = 0; g < 8; ++g) {
    add_k_scale({groups[g].sub_scales[0], groups[g].sub_minimum}, g, b.scales);
    uint8_t* nibbles = b.nibbles + g / 2 * 32;
    for (int64_t i = 0; i < 32; ++i) nibbles[i] |= static_cast<uint8_t>(groups[g].values[i] << (g % 2 * 4));
  }
  std::memcpy(block, &b, sizeof(b));
}

}  // namespace

extern const BlockFormat kFormatQ4_K;
const BlockFormat kFormatQ4_K = {.type = DType::kQ4_K,
                                 .panel = NibbleBlockPanel::kForm,
                                 .low = 0,
                                 .high = 15,
                                 .quantize = nullptr,
                                 .decode = decode_q4_k,
                                 .encode = encode_q4_k,
                                 .is_finite = scales_are_finite<BlockQ4K>};

}  // namespace sepllm
