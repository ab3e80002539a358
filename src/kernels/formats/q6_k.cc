// q6_k: 16 groups of 16; element = (d * scale) * (value - 32), with a scale of 8 bits of each group. 128
// elements have 64 bytes of nibbles (the low four bits of elements 0 to 63, then, in the high halves, of 64
// to 127) and 32 bytes of the high two bits, which lie as in q2_k.
#include <cstdint>
#include <cstring>

#include "kernels/formats/format.h"
#include "kernels/formats/stored_format.h"

namespace sepllm {
namespace {

struct BlockQ6K {
  uint8_t nibbles[128];
  uint8_t pairs[64];
  int8_t scales[16];
  f16 d;
};
static_assert(sizeof(BlockQ6K) == 210);

// Where the bits of the 16 elements are that have scale s: the first byte, and how far up in the bytes.
struct PlaceQ6K {
  int64_t nibble, pair;
  int nibble_shift, pair_shift;
};
PlaceQ6K place_q6_k(int64_t s) {
  return {.nibble = s / 8 * 64 + s % 4 * 16,
          .pair = s / 8 * 32 + s % 2 * 16,
          .nibble_shift = static_cast<int>(s % 8 / 4 * 4),
          .pair_shift = static_cast<int>(s % 8 / 2 * 2)};
}

void decode_q6_k(const void* block, Quanta* groups) {
  const auto b = load_block<BlockQ6K>(block);
  for (int64_t s = 0; s < 16; ++s) {
    Quanta& group = groups[s / 2];
    group.scale = b.d;
    group.sub_scales[s % 2] = static_cast<uint8_t>(b.scales[s]);
    const PlaceQ6K at = place_q6_k(s);
    for (int64_t i = 0; i < 16; ++i) {
      const int low = (b.nibbles[at.nibble + i] >> at.nibble_shift) & 15;
      const int high = (b.pairs[at.pair + i] >> at.pair_shift) & 3;
      group.values[s % 2 * 16 + i] = static_cast<uint8_t>(low | high << 4);
    }
  }
}

void encode_q6_k(const Quanta* groups, void* block) {
  BlockQ6K b{};
  b.d = groups->scale;
  for (int64_t s = 0; s < 16; ++s) {
    b.scales[s] = static_cast<int8_t>(groups[s / 2].sub_scales[s % 2]);
    const PlaceQ6K at = place_q6_k(s);
    for (int64_t i = 0; i < 16; ++i) {
      const int value = groups[s / 2].values[s % 2 * 16 + i];
      b.nibbles[at.nibble + i] |= static_cast<uint8_t>((value & 15) << at.nibble_shift);
      b.pairs[at.pair + i] |= static_cast<uint8_t>((value >> 4) << at.pair_shift);
    }
  }
  std::memcpy(block, &b, sizeof(b));
}

}  // namespace

extern const BlockFormat kFormatQ6_K;
const BlockFormat kFormatQ6_K = {.type = DType::kQ6_K,
                                 .panel = SixBitBlockPanel::kForm,
                                 .low = -32,
                                 .high = 31,
                                 .quantize = nullptr,
                                 .decode = decode_q6_k,
                                 .encode = encode_q6_k,
                                 .is_finite = scale_is_finite<BlockQ6K>};

}  // namespace sepllm
