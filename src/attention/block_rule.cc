#include "attention/block_rule.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/check.h"

namespace sepllm {

bool BlockRule::ends(int64_t n, int32_t token, const TokenSet& separators) const {
  if (!at_separators) return n >= size;
  return n >= most || (n >= size && separators.contains(token));
}

void BlockRule::append(int64_t position, int32_t token, const TokenSet& separators,
                       std::vector<int64_t>* starts) const {
  if (starts->empty()) starts->push_back(position);
  if (ends(position - starts->back() + 1, token, separators)) starts->push_back(position + 1);
}

int64_t block_of(std::span<const int64_t> starts, int64_t position) {
  const auto next = std::upper_bound(starts.begin(), starts.end(), position);
  SEPLLM_CHECK(next != starts.begin());
  return next - starts.begin() - 1;
}

double expected_block_keys(std::span<const int64_t> starts, int64_t first, int64_t count, int64_t position) {
  const int64_t own = block_of(starts, position), earlier = own - first;
  const int64_t own_begin = starts[static_cast<size_t>(own)];
  const auto own_keys = static_cast<double>(position - own_begin + 1);
  if (earlier == 0) return own_keys;
  const auto past = static_cast<double>(own_begin - starts[static_cast<size_t>(first)]);
  return own_keys + past * static_cast<double>(std::min(count - 1, earlier)) / static_cast<double>(earlier);
}

}  // namespace sepllm
