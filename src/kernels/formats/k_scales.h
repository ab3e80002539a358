// The scales and minima of q4_k and q5_k: eight of each, of 6 bits, in 12 bytes.
#pragma once

#include <cstdint>

namespace sepllm {

struct KScale {
  int scale, minimum;
};

// Of group g < 8, which is 32 elements. Bytes 0 to 3 hold the scales of groups 0 to 3 and bytes 4 to 7 their
// minima in their lower 6 bits; the upper 2 bits of these are the upper bits of groups 4 to 7, whose lower
// 4 bits are the halves of bytes 8 to 11. The bytes lie `stride` apart: 1 in stored blocks, more in panels.
inline KScale k_scale(const uint8_t* packed, int64_t g, int64_t stride = 1) {
  const auto byte = [&](int64_t k) { return int{packed[k * stride]}; };
  if (g < 4) return {byte(g) & 63, byte(g + 4) & 63};
  return {(byte(g + 4) & 15) | (byte(g - 4) >> 6) << 4, (byte(g + 4) >> 4) | (byte(g) >> 6) << 4};
}

// Writes them into bytes that are 0 where group g is.
inline void add_k_scale(const KScale& k, int64_t g, uint8_t* packed, int64_t stride = 1) {
  const auto add = [&](int64_t at, int bits) { packed[at * stride] |= static_cast<uint8_t>(bits); };
  if (g < 4) {
    add(g, k.scale);
    add(g + 4, k.minimum);
    return;
  }
  add(g + 4, (k.scale & 15) | (k.minimum & 15) << 4);
  add(g - 4, (k.scale >> 4) << 6);
  add(g, (k.minimum >> 4) << 6);
}

}  // namespace sepllm
