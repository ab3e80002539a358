// What a query sees, as a definition: the object that masks, kernels and caches must agree with
// (docs/METHOD.md#visibility).
#pragma once

#include <cstdint>
#include <vector>

namespace sepllm {

// A window that reaches everything; small enough that sums with positions do not overflow.
inline constexpr int64_t kUnlimited = int64_t{1} << 60;

// Key j is visible to query i iff j <= i and (j - start < n_initial or j is in `extra` or i - j < window),
// and, where `document_starts` is not empty, j is in i's document (start: where that document begins; else
// 0).
struct Pattern {
  int64_t n_initial = 0;
  std::vector<int64_t> extra{};            // ascending positions; may include initial ones
  int64_t window = kUnlimited;             // >= 1
  std::vector<int64_t> document_starts{};  // ascending; empty: one document from 0

  bool visible(int64_t i, int64_t j) const;
  int64_t document_start(int64_t i) const;
  // Positions below `n_tokens` that stay visible when the window has passed, ascending: initial ones (of
  // every document) and extra, once each.
  std::vector<int64_t> kept(int64_t n_tokens) const;
  // Visible pairs of a sequence of `n_tokens`; O(n_tokens log n).
  int64_t visible_pairs(int64_t n_tokens) const;
};

}  // namespace sepllm
