// q8_0: element[k] = scale * values[k].
#include <cmath>
#include <cstdint>
#include <cstring>
#include <span>

#include "kernels/formats/best_scale.h"
#include "kernels/formats/format.h"

namespace sepllm {
namespace {

constexpr int64_t kElementsQ8 = 32;
struct BlockQ8 {
  f16 scale;
  int8_t values[kElementsQ8];
};
static_assert(sizeof(BlockQ8) == 34);

// Steps that are up to a tenth longer than the plain ones (largest magnitude / 127) fit some blocks better.
constexpr ScaleFactors factors_q8() {
  ScaleFactors out{};
  for (int j = 0; j < kScaleCandidates; ++j)
    out.of[j] = 1.0F + 0.1F * static_cast<float>(j) / (kScaleCandidates - 1);
  return out;
}
constexpr ScaleFactors kFactorsQ8 = factors_q8();
constexpr IntegerRange kRangeQ8{.low = -127, .high = 127, .zero = BytePanel::kForm.zero};

void encode_q8(const Quanta* groups, void* block) {
  BlockQ8 b{groups->scale, {}};
  for (int64_t k = 0; k < kElementsQ8; ++k) b.values[k] = static_cast<int8_t>(groups->values[k] - 128);
  std::memcpy(block, &b, sizeof(b));
}

void decode_q8(const void* block, Quanta* groups) {
  BlockQ8 b;
  std::memcpy(&b, block, sizeof(b));
  groups->scale = b.scale;
  for (int64_t k = 0; k < kElementsQ8; ++k) groups->values[k] = static_cast<uint8_t>(b.values[k] + 128);
}

void quantize_q8(const float* from, void* block) {
  const std::span<const float> x(from, kElementsQ8);
  const float plain = std::fabs(extreme(x)) / 127.0F;
  Quanta group{best_scale(x, plain, kFactorsQ8, kRangeQ8.low, kRangeQ8.high), {}};
  round_to_scale(x, group.scale, kRangeQ8, group.values);
  encode_q8(&group, block);
}

}  // namespace

extern const BlockFormat kFormatQ8_0;
const BlockFormat kFormatQ8_0 = {.type = DType::kQ8_0,
                                 .panel = BytePanel::kForm,
                                 .low = kRangeQ8.low,
                                 .high = kRangeQ8.high,
                                 .quantize = quantize_q8,
                                 .decode = decode_q8,
                                 .encode = encode_q8,
                                 .is_finite = leading_scale_is_finite};

}  // namespace sepllm
