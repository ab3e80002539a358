// The vocabulary of a tokenizer: pieces by id and ids by piece.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace sepllm {

using VocabEntry = std::pair<std::string, int64_t>;

// The largest id that a file with this many entries may use: gaps are allowed, but not so large that they
// would waste memory without reason.
int64_t max_token_id(size_t n_entries);

class PieceTable {
 public:
  PieceTable() = default;
  // Error (kBadFile) for ids outside [0, max_token_id] or given twice, for empty pieces, and for pieces given
  // twice.
  PieceTable(std::vector<VocabEntry> entries, const std::string& file);

  // One more than the largest id.
  int64_t size() const { return static_cast<int64_t>(pieces_.size()); }
  // Empty for ids without a piece.
  const std::string& piece(int64_t id) const { return pieces_[static_cast<size_t>(id)]; }
  // The id of a piece; -1 if there is none.
  int32_t find(std::string_view piece) const;

 private:
  std::vector<std::string> pieces_;
  std::vector<int32_t> slots_;  // open addressing; -1: free
};

// A hash of a few bytes whose upper bits are well mixed.
uint64_t hash_bytes(std::string_view bytes);

}  // namespace sepllm
