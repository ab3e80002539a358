#include "attention/pattern.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "attention/block_rule.h"
#include "attention/nsa_rule.h"
#include "base/check.h"

namespace sepllm {

int64_t Pattern::document_start(int64_t i) const {
  const auto next = std::upper_bound(document_starts.begin(), document_starts.end(), i);
  return next == document_starts.begin() ? 0 : *(next - 1);
}

bool Pattern::visible(int64_t i, int64_t j) const {
  SEPLLM_CHECK(blocks.count == 0);
  const int64_t start = document_start(i);
  if (j > i || j < start) return false;
  return j - start < n_initial || i - j < window || std::binary_search(extra.begin(), extra.end(), j);
}

std::vector<int64_t> Pattern::kept(int64_t n_tokens) const {
  std::vector<int64_t> out;
  std::vector<int64_t> starts = document_starts;
  if (starts.empty() || starts.front() != 0) starts.insert(starts.begin(), 0);
  for (size_t d = 0; d < starts.size(); ++d) {
    const int64_t end = d + 1 < starts.size() ? starts[d + 1] : n_tokens;
    for (int64_t j = starts[d]; j < std::min({starts[d] + n_initial, end, n_tokens}); ++j) out.push_back(j);
  }
  for (const int64_t j : extra) {
    if (j < n_tokens) out.push_back(j);
  }
  std::sort(out.begin(), out.end());
  out.erase(std::unique(out.begin(), out.end()), out.end());
  return out;
}

int64_t Pattern::visible_pairs(int64_t n_tokens) const {
  if (blocks.nsa()) {
    const NsaRule rule = nsa_rule(blocks);
    int64_t pairs = 0;
    for (int64_t i = 0; i < n_tokens; ++i) pairs += nsa_pairs(rule, i - document_start(i));
    return pairs;
  }
  if (blocks.count > 0) {
    double sum = 0;
    for (int64_t i = 0; i < n_tokens; ++i) {
      const int64_t first = block_of(blocks.starts, document_start(i));
      sum += expected_block_keys(blocks.starts, first, blocks.count, i);
    }
    return std::llround(sum);
  }
  const std::vector<int64_t> all = kept(n_tokens);
  int64_t pairs = 0;
  for (int64_t i = 0; i < n_tokens; ++i) {
    const int64_t start = document_start(i);
    const int64_t band = std::max(start, i - std::min(window, i + 1) + 1);
    const auto first = std::lower_bound(all.begin(), all.end(), start);
    pairs += (i - band + 1) + (std::lower_bound(first, all.end(), band) - first);
  }
  return pairs;
}

}  // namespace sepllm
