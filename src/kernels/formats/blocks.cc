#include "kernels/formats/blocks.h"

#include <algorithm>

#include "kernels/formats/format.h"

namespace sepllm {

void quantize_blocks(DType type, const float* from, int64_t n, void* to) {
  const BlockFormat& format = format_of(type);
  const int64_t elements = block_elements(type);
  auto* block = static_cast<char*>(to);
  for (int64_t k = 0; k < n; k += elements, block += block_bytes(type)) {
    float x[kMostGroups * kGroupElements] = {};
    std::copy_n(from + k, std::min(elements, n - k), x);
    format.quantize(x, block);
  }
}

void dequantize_blocks(DType type, const void* from, int64_t n, float* to) {
  const int zero = format_of(type).panel.zero;
  for_groups(type, from, n, [&](int64_t g, const Quanta& quanta) {
    const float scale = to_float(quanta.scale);
    const int64_t first = g * kGroupElements, count = std::min(kGroupElements, n - first);
    for (int64_t k = 0; k < count; ++k) to[first + k] = scale * static_cast<float>(quanta.values[k] - zero);
  });
}

int64_t find_bad_block(DType type, const void* from, int64_t n_blocks) {
  const BlockFormat& format = format_of(type);
  const auto* block = static_cast<const char*>(from);
  for (int64_t k = 0; k < n_blocks; ++k, block += block_bytes(type)) {
    if (!format.is_finite(block)) return k;
  }
  return -1;
}

}  // namespace sepllm
