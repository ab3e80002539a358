// Added tokens of a tokenizer.json: strings that always become tokens of their own, wherever they stand in a
// text.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/function_ref.h"
#include "base/json.h"
#include "text/steps/normalizer.h"
#include "text/text_range.h"

namespace sepllm {

struct AddedToken {
  int32_t id = -1;
  std::string content{};
  bool special = false;
  bool single_word = false;  // only between non-word characters
  bool lstrip = false;       // takes the white space before it
  bool rstrip = false;       // takes the white space after it
  bool normalized = false;   // looked for in the normalized text
};

// A part of a text: an added token (id >= 0), or the text between two of them.
struct Section {
  std::string_view text;
  int32_t id;
};
using SectionSink = FunctionRef<void(const Section&)>;

// Where in a text special tokens are recognised.
struct SpecialPlaces {
  bool anywhere = true;  // everywhere (within `within`), or nowhere
  // If not null, a token is recognised only if all of its bytes lie in one of these ranges, which are
  // ascending and do not touch.
  const std::vector<TextRange>* within = nullptr;

  bool allow(size_t begin, size_t end) const;
};

// Finds a set of strings in a text: the leftmost match first, and the longest of those that start at the same
// place.
class StringMatcher {
 public:
  // Error (kOutOfRange) if `text` is longer than 1024 bytes, because the longest string bounds the work at
  // each place.
  void add(std::string_view text, int32_t value);
  bool empty() const { return nodes_.empty(); }
  struct Match {
    size_t begin, end;
    int32_t value;
  };
  // Matches that `allowed` refuses are skipped as if they were not in the set.
  std::optional<Match> find(
      std::string_view text, size_t from,
      FunctionRef<bool(const Match&)> allowed = [](const Match&) { return true; }) const;

 private:
  int32_t child(int32_t node, char byte) const;
  std::optional<Match> longest_at(std::string_view text, size_t at,
                                  FunctionRef<bool(const Match&)> allowed) const;

  std::vector<int32_t> nodes_;  // value of the string that ends in a node, or -1
  std::unordered_map<uint64_t, int32_t> edges_;
  std::array<bool, 256> first_{};                           // whether a string begins with this byte
  std::array<bool, 256> one_byte_{};                        // whether this byte is a string by itself
  std::vector<bool> first_two_ = std::vector<bool>(65536);  // the first two bytes of longer strings
};

class AddedTokens {
 public:
  AddedTokens() = default;
  // Error (kBadFile) for ids or contents that occur twice, empty contents, contents that are not UTF-8.
  AddedTokens(std::vector<AddedToken> tokens, const Normalizer& normalizer, const std::string& file);

  const std::vector<AddedToken>& tokens() const { return tokens_; }
  const AddedToken* by_id(int32_t id) const;
  const AddedToken* by_content(std::string_view content) const;

  // Whether no added token crosses the place between an ASCII letter and a line break after it.
  bool cuts_before_line_break() const;
  // Whether some token ends in an ASCII letter: a text may be cut right after it.
  bool any_ends_in_letter() const;

  // Cuts `text` at the added tokens that are looked for before (normalized = false) or after normalization.
  // Special tokens count as plain text where `places` does not allow them.
  void split(std::string_view text, bool normalized, const SpecialPlaces& places, SectionSink sink) const;
  // Whether some special token is looked for in the normalized text.
  bool normalizes_special() const;

 private:
  bool accepts(const AddedToken& token, std::string_view text, const StringMatcher::Match& match,
               const SpecialPlaces& places) const;

  std::vector<AddedToken> tokens_;
  std::unordered_map<int32_t, size_t> by_id_;
  std::unordered_map<std::string, size_t> by_content_;
  StringMatcher raw_, normalized_;
};

// Content and flags of a token as Hugging Face writes them; the caller sets the id. Error naming the key.
AddedToken read_added_token(const JsonObject& entry);

// Translates ranges of a text into ranges of the normal form of its part [begin, begin + part.size()).
// Anything that a normalizer joins over the edge of a range is left out.
std::vector<TextRange> normalized_ranges(const Normalizer& normalizer, std::string_view part, size_t begin,
                                         const std::vector<TextRange>& ranges);

// The list under "added_tokens". Error naming the entry and key.
std::vector<AddedToken> parse_added_tokens(const JsonObject& document, int64_t max_id);

}  // namespace sepllm
