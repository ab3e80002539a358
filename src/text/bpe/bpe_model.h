// Byte pair encoding: splits a word into tokens.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "text/bpe/merge_table.h"
#include "text/bpe/piece_table.h"
#include "text/bpe/word_cache.h"

namespace sepllm {

using MergePair = std::pair<std::string, std::string>;

struct BpeSettings {
  bool bytes = false;          // words are bytes, pieces are written in the byte alphabet
  bool byte_fallback = false;  // a character without a piece becomes <0xNN> tokens
  bool ignore_merges = false;  // a word that is a piece becomes that token, whatever the merges say
  bool fuse_unk = false;       // unknown characters in a row are one unknown token
  std::string unk_token{};     // empty: unknown characters are dropped
  // In the pieces, continuing_prefix stands before every character of a word but the first, and end_suffix
  // after the last one.
  std::string continuing_prefix{}, end_suffix{};
};

// Working memory that one thread needs while it encodes.
struct BpeScratch {
  WordCache cache;
  std::string text;
  std::vector<int32_t> symbols;
  std::vector<Merge> merges;
  std::vector<int32_t> previous, next;
};

class BpeModel {
 public:
  BpeModel() = default;
  // Error (kBadFile) for merges of or into pieces that do not exist, and for an unknown unk_token.
  BpeModel(PieceTable pieces, const std::vector<MergePair>& merges, BpeSettings settings,
           const std::string& file);
  // Builds the model from tiktoken's form: pieces join in the order of their ids, whichever two pieces they
  // consist of.
  static BpeModel from_ranks(PieceTable pieces, BpeSettings settings, const std::string& file);

  // Appends the tokens of `word` (valid UTF-8; any bytes in byte mode) to `out`; takes n log n time. Error
  // (kOutOfRange) for a single word of 2^31 characters or more that cannot be cut.
  void encode_word(std::string_view word, BpeScratch& scratch, std::vector<int32_t>& out) const;

  const PieceTable& pieces() const { return pieces_; }
  const BpeSettings& settings() const { return settings_; }

 private:
  // Ids of the pieces of single characters.
  struct Units {
    std::vector<int32_t> common;                 // bytes, or characters below U+10000: id or -1
    std::unordered_map<char32_t, int32_t> rare;  // characters from U+10000 on
  };

  void index_fallback(const std::string& file);
  void index_neighbours();
  BpeModel(PieceTable pieces, BpeSettings settings, const std::string& file);
  // Whether pieces are written with continuing_prefix or end_suffix.
  bool decorated() const { return !settings_.continuing_prefix.empty() || !settings_.end_suffix.empty(); }
  // The texts before and after a character at a place of a word.
  std::pair<std::string_view, std::string_view> decoration(bool first, bool last) const;
  static int32_t unit_id(char32_t unit, const Units& units);
  int32_t unit_id(char32_t unit) const { return unit_id(unit, units_[0]); }
  bool may_cut(char32_t left, char32_t right) const;
  void encode_long_word(std::string_view word, BpeScratch& scratch, std::vector<int32_t>& out) const;
  void encode_part(std::string_view part, BpeScratch& scratch, std::vector<int32_t>& out) const;
  void encode_uncached(std::string_view part, BpeScratch& scratch, std::vector<int32_t>& out) const;
  Units index_units(std::string_view before, std::string_view behind) const;
  void append_units(std::string_view part, std::vector<int32_t>& symbols) const;
  bool append_fallback(std::string_view character, bool first, bool last,
                       std::vector<int32_t>& symbols) const;
  int32_t whole_piece(std::string_view word, std::string& buffer) const;

  PieceTable pieces_;
  MergeTable merges_;
  BpeSettings settings_;
  int32_t unk_id_ = -1;
  // Indexed by 2 * (not the first of a word) + (last of a word); only the first entry exists where pieces are
  // not decorated.
  std::vector<Units> units_ = std::vector<Units>(1);
  std::vector<int32_t> fallback_;  // token <0xNN>: its id or -1
  // indexed by the hash of a pair: whether the two units occur next to each other within some piece
  std::vector<bool> neighbours_;
};

// Merges `symbols` to the end. Both functions give the same result: the first is quadratic and fast for short
// words, the second takes n log n. Exposed for tests.
void merge_short(const MergeTable& table, std::vector<int32_t>& symbols, std::vector<Merge>& scratch);
void merge_long(const MergeTable& table, BpeScratch& scratch);  // works on scratch.symbols

}  // namespace sepllm
