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

  // Blocks, of which each query and query head chooses some by the data (docs/METHOD.md#blocks).
  struct Blocks {
    std::vector<int64_t> starts{};  // where blocks begin, ascending: 0, the beginning of each document, ...
    int64_t count = 0;              // blocks that a query sees, including its own; 0: there are no blocks
    int64_t size = 0;               // only for NSA: tokens of a block
    int64_t nsa_window = 0;         // BlockRule::nsa_window
    bool nsa() const { return nsa_window > 0; }
  };
  // If there are blocks, the conditions above do not apply (the window must be unlimited). A query sees its
  // own block up to itself, and at most count - 1 of the earlier blocks of its document.
  Blocks blocks{};

  // Not if there are blocks (checked): what is visible then depends on the data.
  bool visible(int64_t i, int64_t j) const;
  int64_t document_start(int64_t i) const;
  // The positions below `n_tokens` that stay visible after the window has passed, ascending and each once:
  // the initial ones of every document, and `extra`.
  std::vector<int64_t> kept(int64_t n_tokens) const;
  // The number of visible pairs in a sequence of `n_tokens`. Takes O(n_tokens log n). With blocks of several
  // sizes it is the mean over all choices.
  int64_t visible_pairs(int64_t n_tokens) const;
};

}  // namespace sepllm
