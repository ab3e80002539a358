// q5_k: as q4_k (q4_k.cc), with a fifth bit of each value: of group g, bit g of the 32 bytes `high`.
#include <cstdint>
#include <cstring>

#include "kernels/formats/format.h"
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

void decode_q5_k(const void* block, Quanta* groups) {
  const auto b = load_block<BlockQ5K>(block);
  for (int64_t g = 0; g < 8; ++g) {
    const KScale k = k_scale(b.scales, g);
    Quanta& group = groups[g];
    group.scale = b.d;
    group.minimum = b.m;
    group.sub_scales[0] = static_cast<uint8_t>(k.scale);
    group.sub_minimum = static_cast<uint8_t>(k.minimum);
    const uint8_t* nibbles = b.nibbles + g / 2 * 32;
    for (int64_t i = 0; i < 32; ++i) {
      group.values[i] =
          static_cast<uint8_t>(((nibbles[i] >> (g % 2 * 4)) & 15) | ((b.high[i] >> g) & 1) << 4);
    }
  }
}

void encode_q5_k(const Quanta* groups, void* block) {
  BlockQ5K b{groups->scale, groups->minimum, {}, {}, {}};
  for (int64_t g = 0; g < 8; ++g) {
    add_k_scale({groups[g].sub_scales[0], groups[g].sub_minimum}, g, b.scales);
    uint8_t* nibbles = b.nibbles + g / 2 * 32;
    for (int64_t i = 0; i < 32; ++i) {
      nibbles[i] |= static_cast<uint8_t>((groups[g].values[i] & 15) << (g % 2 * 4));
      b.high[i] |= static_cast<uint8_t>((groups[g].values[i] >> 4) << g);
    }
  }
  std::memcpy(block, &b, sizeof(b));
}

}  // namespace

extern const BlockFormat kFormatQ5_K;
const BlockFormat kFormatQ5_K = {.type = DType::kQ5_K,
                                 .panel = FiveBitBlockPanel::kForm,
                                 .low = 0,
                                 .high = 31,
                                 .quantize = nullptr,
                                 .decode = decode_q5_k,
                                 .encode = encode_q5_k,
                                 .is_finite = scales_are_finite<BlockQ5K>};

}  // namespace sepllm
