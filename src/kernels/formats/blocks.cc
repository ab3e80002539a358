#include "kernels/formats/blocks.h"

#include <algorithm>
#include <cstdint>

#include "base/check.h"
#include "kernels/formats/format.h"
#include "kernels/formats/scales.h"
#include "kernels/formats/stored_format.h"

namespace sepllm {
namespace {

void dequantize_stored(const StoredFormat& format, const void* from, int64_t n, float* to) {
  const int64_t elements = block_elements(format.type), bytes = block_bytes(format.type);
  const auto* block = static_cast<const char*>(from);
  int64_t k = 0;
  for (; k + elements <= n; k += elements, block += bytes) format.dequantize(block, to + k);
  if (k == n) return;
  float last[kMostGroups * kGroupElements];
  format.dequantize(block, last);
  std::copy_n(last, n - k, to + k);
}

}  // namespace

void quantize_blocks(DType type, const float* from, int64_t n, void* to) {
  const BlockFormat& format = format_of(type);
  SEPLLM_CHECK(format.quantize != nullptr);
  const int64_t elements = block_elements(type);
  auto* block = static_cast<char*>(to);
  for (int64_t k = 0; k < n; k += elements, block += block_bytes(type)) {
    float x[kMostGroups * kGroupElements] = {};
    std::copy_n(from + k, std::min(elements, n - k), x);
    format.quantize(x, block);
  }
}

void dequantize_blocks(DType type, const void* from, int64_t n, float* to) {
  if (const StoredFormat* stored = stored_format(type)) return dequantize_stored(*stored, from, n, to);
  const PanelForm& form = format_of(type).panel;
  for_groups(type, from, n, [&](int64_t g, const Quanta& quanta) {
    float elements[kGroupElements];
    group_elements(form, quanta, elements);
    const int64_t first = g * kGroupElements;
    std::copy_n(elements, std::min(kGroupElements, n - first), to + first);
  });
}

int64_t find_bad_block(DType type, const void* from, int64_t n_blocks) {
  const StoredFormat* stored = stored_format(type);
  const auto is_finite = stored != nullptr ? stored->is_finite : format_of(type).is_finite;
  const auto* block = static_cast<const char*>(from);
  for (int64_t k = 0; k < n_blocks; ++k, block += block_bytes(type)) {
    if (!is_finite(block)) return k;
  }
  return -1;
}

}  // namespace sepllm
