// The scales and minima of q4_k and q5_k: eight of each, of 6 bits, in 12 bytes.
#pragma once

#include <cstdint>

namespace sepllm {

struct KScale {
  int scale, minimum;
};

// Of group g < 8, which is 32 elements. Bytes 0 to 3 hold the scales of groups 0 to 3 and bytes 4 to 7 their
// minima in their lower 6 bits; the upper 2 bits of these are the upper bits of groups 4 to 7, whose lower
// 4 bits are the halves of bytes 8 to 11.
inline KScale k_scale(const uint8_t* packed, int64_t g) {
  if (g < 4) return {packed[g] & 63, packed[g + 4] & 63};
  return {(packed[g + 4] & 15) | (packed[g - 4] >> 6) << 4, (packed[g + 4] >> 4) | (packed[g] >> 6) << 4};
}

}  // namespace sepllm
