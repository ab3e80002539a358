// Byte-pair merging by score, as in SentencePiece's BPE models and llama2.c: of all adjacent pairs whose
// joined text is a piece, the one with the highest score is merged first; of equal ones, the leftmost.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace sepllm {

struct ScoredPiece {
  std::string text;
  float score = 0;
  bool mergeable = true;  // false: neither found in a text nor made by a merge (control tokens, bytes)
};

class ScoreBpe {
 public:
  // A piece's id is its index in `pieces`. Error (kBadFile) naming `file` for a piece longer than
  // kMaxPieceBytes or a score that is not finite. Of pieces with the same text the first one counts.
  ScoreBpe(const std::vector<ScoredPiece>& pieces, const std::string& file);

  static constexpr size_t kMaxPieceBytes = 512;

  // The id of a mergeable piece by its exact text; -1 if there is none.
  int32_t find(std::string_view text) const;

  // No piece has a line break after an ASCII letter, so no merge crosses such a place.
  bool cuts_before_line_break() const;

  // Appends the ids of `text` (valid UTF-8): its characters are looked up, those that are not pieces are
  // replaced by byte_ids of their bytes, then all are merged. O(n log n) in the longest word, O(n) in the
  // number of words.
  void encode(std::string_view text, const std::array<int32_t, 256>& byte_ids,
              std::vector<int32_t>& out) const;

 private:
  struct Merge {
    uint64_t pair;  // left id << 32 | right id; kEmpty: a free place
    int32_t merged;
    float score;
  };
  struct Hash {
    using is_transparent = void;
    size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
  };

  struct Scratch;

  const Merge* find_merge(int32_t left, int32_t right) const;
  void insert_merge(const Merge& merge);
  bool no_merge_before_blank() const;
  // Merges scratch.ids as far as possible and appends the result to `out`.
  void merge(Scratch& scratch, std::vector<int32_t>& out) const;
  void push(Scratch& scratch, int64_t left) const;

  std::unordered_map<std::string, int32_t, Hash, std::equal_to<>> by_text_;
  std::vector<Merge> merges_;  // open addressing; the size is a power of two
  size_t n_merges_ = 0;
  bool word_by_word_ = false;
};

}  // namespace sepllm
