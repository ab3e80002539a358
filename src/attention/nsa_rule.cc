#include "attention/nsa_rule.h"

#include <algorithm>
#include <cstdint>

namespace sepllm {

int64_t nsa_keys(const NsaRule& rule, int64_t i, const int32_t* chosen) {
  const int64_t own_begin = rule.own(i) * rule.block_size;
  const int64_t window_begin = std::max<int64_t>(0, i - std::min(rule.window, i + 1) + 1);
  // The window, and the own block as far as it begins before the window.
  int64_t keys = i + 1 - std::min(own_begin, window_begin);
  for (int64_t c = 0; c < rule.chosen() && chosen[c] >= 0; ++c) {
    // What of the block lies before the window.
    const int64_t begin = chosen[c] * rule.block_size;
    keys += std::clamp<int64_t>(window_begin - begin, 0, rule.block_size);
  }
  return keys + rule.complete(i);
}

int64_t nsa_pairs(const NsaRule& rule, int64_t i) {
  const int64_t own = rule.own(i);
  const int64_t selected = std::min(rule.chosen(), own) * rule.block_size + i + 1 - own * rule.block_size;
  return rule.complete(i) + selected + std::min(rule.window, i + 1);
}

}  // namespace sepllm
