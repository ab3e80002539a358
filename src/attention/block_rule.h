// How a layer cuts its past into blocks, of which each query chooses some (docs/METHOD.md#blocks).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/token_set.h"

namespace sepllm {

struct BlockRule {
  int64_t count = 0;           // blocks that a query sees, including its own; 0: the layer has no blocks
  int64_t size = 0;            // tokens of a block; with at_separators the least number of them
  bool at_separators = false;  // a block ends with its first separator from its size-th token on
  int64_t most = 0;            // only with at_separators: the largest number of tokens, >= size
  // Native sparse attention: besides the blocks, a query sees the means of complete blocks, and a window of
  // this many tokens (attention/nsa_rule.h). 0: it does not.
  int64_t nsa_window = 0;

  bool used() const { return count > 0; }
  bool nsa() const { return nsa_window > 0; }
  // Rows of means of a block that a cache holds: of its keys, and for NSA of its values too.
  int64_t means_of_block() const { return nsa() ? 2 : 1; }
  // Whether the n-th token of a block (counted from 1) is its last one.
  bool ends(int64_t n, int32_t token, const TokenSet& separators) const;
  // Adds the token at `position` to `starts`, the positions at which blocks begin: the first entry is 0, and
  // the last is where the block begins that is not complete yet (position + 1 if this token completes one).
  void append(int64_t position, int32_t token, const TokenSet& separators,
              std::vector<int64_t>* starts) const;

  bool operator==(const BlockRule&) const = default;
};

// The block that holds a position: the last of `starts` (ascending, the first at or before it) that is at or
// before it.
int64_t block_of(std::span<const int64_t> starts, int64_t position);

// About how many keys a query at `position` sees that chooses at most count - 1 of the blocks before its own:
// exact where those blocks have one size, and otherwise the mean over all choices. `first`: the first block
// of its document.
double expected_block_keys(std::span<const int64_t> starts, int64_t first, int64_t count, int64_t position);

}  // namespace sepllm
