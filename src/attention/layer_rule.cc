#include "attention/layer_rule.h"

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <utility>
#include <vector>

#include "attention/nsa_rule.h"
#include "base/check.h"

namespace sepllm {
namespace {

// Each document begins a block.
Pattern::Blocks pattern_blocks(const BlockRule& rule, const int32_t* tokens, int64_t n_tokens,
                               const TokenSet& separators, const std::vector<int64_t>& document_starts) {
  Pattern::Blocks out{.starts = {}, .count = rule.count, .size = rule.size, .nsa_window = rule.nsa_window};
  auto next = document_starts.begin();
  for (int64_t j = 0; j < n_tokens; ++j) {
    for (; next != document_starts.end() && *next <= j; ++next) {
      if (*next == j && !out.starts.empty() && out.starts.back() < j) out.starts.push_back(j);
    }
    rule.append(j, tokens[j], separators, &out.starts);
  }
  if (!out.starts.empty() && out.starts.back() == n_tokens) out.starts.pop_back();  // an empty block
  // No more than there are; for NSA a number that depends only on the length of the sequence.
  if (rule.nsa())
    out.count = std::clamp<int64_t>(n_tokens / rule.size + 1, kNsaForcedBlocks, rule.count);
  else
    out.count = std::clamp<int64_t>(std::ssize(out.starts), 1, rule.count);
  return out;
}

}  // namespace

bool LayerRule::stays(int64_t position, int32_t token, const TokenSet& separators, int64_t last_kept) const {
  if (position < init) return true;
  if (keeps == Keeps::kSeparators)
    return separators.contains(token) || (max_segment > 0 && position - last_kept >= max_segment);
  return keeps == Keeps::kInterval && (position - init + 1) % interval == 0;
}

Pattern LayerRule::pattern(const int32_t* tokens, int64_t n_tokens, const TokenSet& separators,
                           std::vector<int64_t> document_starts) const {
  SEPLLM_CHECK(!streams);
  Pattern out{.n_initial = init, .window = window, .document_starts = std::move(document_starts)};
  if (blocks.used()) out.blocks = pattern_blocks(blocks, tokens, n_tokens, separators, out.document_starts);
  if (keeps == Keeps::kNothing) return out;
  int64_t start = 0;       // of j's document
  int64_t last_kept = -1;  // counted from there
  auto next = out.document_starts.begin();
  for (int64_t j = 0; j < n_tokens; ++j) {
    for (; next != out.document_starts.end() && *next <= j; ++next) {
      start = *next;
      last_kept = -1;
    }
    if (!stays(j - start, tokens[j], separators, last_kept)) continue;
    last_kept = j - start;
    // (The first `init` of each document are the pattern's initial ones.)
    if (j - start >= init) out.extra.push_back(j);
  }
  return out;
}

}  // namespace sepllm
