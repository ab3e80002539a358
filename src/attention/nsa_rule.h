// The rule of native sparse attention (NSA): which blocks exist, which of them a query may see, and which
// ones it chooses by their scores (docs/METHOD.md#native-sparse-attention). Positions count from where the
// document begins.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "attention/block_rule.h"
#include "attention/pattern.h"

namespace sepllm {

// The three branches, in the order of the gates of a head.
enum class NsaBranch { kCompressed, kSelected, kWindow };
inline constexpr size_t kNsaBranches = 3;

// A query always sees the first block, its own and the one before its own.
inline constexpr int64_t kNsaForcedBlocks = 3;

struct NsaRule {
  int64_t block_size = 64;  // tokens; block b holds positions [b * block_size, (b + 1) * block_size)
  int64_t blocks = 16;      // blocks that a query sees, at most, including its own; >= kNsaForcedBlocks
  int64_t window = 512;     // of the window branch; it includes the query

  // The compressed branch of the query at position i sees the blocks [0, complete(i)).
  int64_t complete(int64_t i) const { return (i + 1) / block_size; }
  int64_t own(int64_t i) const { return i / block_size; }
  int64_t chosen() const { return blocks - 1; }  // in addition to its own
  bool operator==(const NsaRule&) const = default;
};

// The rule of a layer, or of a pattern, whose blocks are NSA's.
inline NsaRule nsa_rule(const BlockRule& rule) {
  return {.block_size = rule.size, .blocks = rule.count, .window = rule.nsa_window};
}
inline NsaRule nsa_rule(const Pattern::Blocks& blocks) {
  return {.block_size = blocks.size, .blocks = blocks.count, .window = blocks.nsa_window};
}

// The keys that the query at position i sees: tokens, each once, in the selected blocks and the window, and
// means of complete blocks. `chosen`: as nsa_choose() sets it.
int64_t nsa_keys(const NsaRule& rule, int64_t i, const int32_t* chosen);
// The pairs of queries and keys or means that the branches multiply for the query at position i: what is seen
// by two branches counts twice.
int64_t nsa_pairs(const NsaRule& rule, int64_t i);

// The blocks that the query at position i chooses in addition to its own: out[rule.chosen()], ascending, and
// -1 after them. scores[b] of the complete blocks b < rule.complete(i): the sum of the compressed branch's
// weights over the heads that share a choice. Of equal scores, the earlier block is chosen first. `others` is
// scratch memory.
template <typename Score>
void nsa_choose(const NsaRule& rule, int64_t i, const Score* scores, std::vector<int32_t>* others,
                int32_t* out) {
  const auto own = static_cast<int32_t>(rule.own(i));
  int32_t* end = out;
  if (own > 0) *end++ = 0;
  if (own > 1) *end++ = own - 1;
  // The blocks between the two are complete.
  others->clear();
  for (int32_t b = 1; b < own - 1; ++b) others->push_back(b);
  const auto n = std::min<int64_t>(rule.chosen() - (end - out), static_cast<int64_t>(others->size()));
  if (n > 0) {
    // A score that is not a number counts as 0, because an order needs numbers.
    const auto score = [&](int32_t b) { return scores[b] > 0 ? scores[b] : Score{0}; };
    std::nth_element(others->begin(), others->begin() + (n - 1), others->end(), [&](int32_t a, int32_t b) {
      return score(a) != score(b) ? score(a) > score(b) : a < b;
    });
    end = std::copy_n(others->begin(), n, end);
  }
  std::sort(out, end);
  std::fill(end, out + rule.chosen(), -1);
}

}  // namespace sepllm
