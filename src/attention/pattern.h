// The definition of what a query sees. Masks, kernels and caches must all agree with it
// (docs/METHOD.md#visibility).
#pragma once

#include <cstdint>
#include <vector>

namespace sepllm {

// A window that reaches every key. It is small enough that sums with positions do not overflow.
inline constexpr int64_t kUnlimited = int64_t{1} << 60;

// Key j is visible to query i iff j <= i and (j - start < n_initial or j is in `extra` or i - j < window).
// Here `start` is where j's document begins (0 without `document_starts`); if there are documents, j must
// also be in i's document.
struct Pattern {
  int64_t n_initial = 0;
  std::vector<int64_t> extra{};            // ascending positions; may include initial ones
  int64_t window = kUnlimited;             // >= 1
  std::vector<int64_t> document_starts{};  // ascending; empty: one document from 0

  bool visible(int64_t i, int64_t j) const;
  int64_t document_start(int64_t i) const;
  // The positions below `n_tokens` that stay visible after the window has passed, ascending and each once:
  // the initial ones of every document, and `extra`.
  std::vector<int64_t> kept(int64_t n_tokens) const;
  // The number of visible pairs in a sequence of `n_tokens`. Takes O(n_tokens log n).
  int64_t visible_pairs(int64_t n_tokens) const;
};

}  // namespace sepllm
