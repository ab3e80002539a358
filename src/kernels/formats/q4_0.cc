// q4_0: element[k] = scale * (nibble[k] - 8); nibble k < 16 is the low half of nibbles[k], k >= 16 the high
// half of nibbles[k - 16].
#include <cstdint>
#include <cstring>
#include <span>

#include "kernels/formats/best_scale.h"
#include "kernels/formats/format.h"

namespace sepllm {
namespace {

struct BlockQ4 {
  f16 scale;
  uint8_t nibbles[16];
};
constexpr int64_t kElementsQ4 = 32;
static_assert(sizeof(BlockQ4) == 18);

// The element of largest magnitude at -6 (its opposite then fits in too) to -9 (cut to -8); the plain scale
// puts it at -8.
constexpr ScaleFactors factors_q4() {
  ScaleFactors out{{1.0F}};
  for (int j = 1; j < kScaleCandidates; ++j) {
    out.of[j] = 8.0F / (6.0F + 3.0F * static_cast<float>(j - 1) / (kScaleCandidates - 2));
  }
  return out;
}
constexpr ScaleFactors kFactorsQ4 = factors_q4();
constexpr IntegerRange kRangeQ4{.low = -8, .high = 7, .zero = NibblePanel::kForm.zero};

void encode_q4(const Quanta* groups, void* block) {
  BlockQ4 b{groups->scale, {}};
  for (int64_t k = 0; k < 16; ++k)
    b.nibbles[k] = static_cast<uint8_t>(groups->values[k] | groups->values[k + 16] << 4);
  std::memcpy(block, &b, sizeof(b));
}

void decode_q4(const void* block, Quanta* groups) {
  BlockQ4 b;
  std::memcpy(&b, block, sizeof(b));
  groups->scale = b.scale;
  for (int64_t k = 0; k < 16; ++k) {
    groups->values[k] = b.nibbles[k] & 15;
    groups->values[k + 16] = b.nibbles[k] >> 4;
  }
}

void quantize_q4(const float* from, void* block) {
  const std::span<const float> x(from, kElementsQ4);
  Quanta group{best_scale(x, extreme(x) / -8.0F, kFactorsQ4, kRangeQ4.low, kRangeQ4.high), {}};
  round_to_scale(x, group.scale, kRangeQ4, group.values);
  encode_q4(&group, block);
}

}  // namespace

extern const BlockFormat kFormatQ4_0;
const BlockFormat kFormatQ4_0 = {.type = DType::kQ4_0,
                                 .panel = NibblePanel::kForm,
                                 .low = kRangeQ4.low,
                                 .high = kRangeQ4.high,
                                 .quantize = quantize_q4,
                                 .decode = decode_q4,
                                 .encode = encode_q4,
                                 .is_finite = leading_scale_is_finite};

}  // namespace sepllm
