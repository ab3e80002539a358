// Pre-tokenizers of a tokenizer.json: they cut a text into the words inside which BPE merges. Steps hand each
// piece on to the next one at once, so that no list of pieces exists.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/function_ref.h"
#include "base/json.h"
#include "text/steps/regex.h"
#include "text/steps/split_pattern.h"

namespace sepllm {

struct Piece {
  std::string_view text;   // valid UTF-8, not empty
  bool first;              // begins at the first character of the whole input
  bool continued = false;  // begins where an earlier part of the input was cut off
};
using PieceSink = FunctionRef<void(const Piece&)>;

// Buffers of a run, reused between texts: one string a step that rewrites its pieces.
struct PreTokenizerScratch {
  RegexScratch regex;
  std::vector<std::string> buffers;
};

class PreTokenizerStep {
 public:
  virtual ~PreTokenizerStep() = default;
  // Pieces given to `next` lie in the input piece or in `buffer`.
  virtual void run(const Piece& piece, RegexScratch& scratch, std::string& buffer, PieceSink next) const = 0;
};

enum class SplitBehavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };

class PreTokenizer {
 public:
  PreTokenizer() = default;
  // ByteLevel, Split, Digits, Punctuation, Whitespace, WhitespaceSplit, BertPreTokenizer, CharDelimiterSplit,
  // Metaspace and sequences of them, under the key "pre_tokenizer" of `document`. Error (kUnsupported) for
  // any other.
  explicit PreTokenizer(const JsonObject& document);

  // GPT-2's and Llama-3's: cut by a known pattern, then bytes.
  static PreTokenizer byte_level(const char* pattern, bool add_prefix_space = false);

  // Calls `sink` for each word of `text`, a part of the input without added tokens, in order.
  void run(const Piece& text, PreTokenizerScratch& scratch, PieceSink sink) const;

  // The last step is ByteLevel: its alphabet is left out, the model works on the bytes themselves.
  bool ends_in_bytes() const { return ends_in_bytes_; }
  // No word reaches over the place between an ASCII letter and a line break behind it, whatever is around.
  bool cuts_before_line_break() const { return cuts_before_line_break_; }
  // A blank goes before the text behind each added token, and nowhere else.
  bool blank_before_sections() const { return blank_before_sections_; }
  // There is a ByteLevel step somewhere.
  bool has_byte_level() const { return has_byte_level_; }

 private:
  void add_step(const JsonObject& step, const std::string& type);
  // The steps that cut at characters of a class. False: it is none of them.
  bool add_class_step(const JsonObject& step, const std::string& type);
  void add_byte_level(bool add_prefix_space, const char* pattern);  // nullptr: none
  void add_words(std::unique_ptr<SplitPattern> pattern, SplitBehavior behavior, bool invert);
  void run_from(size_t step, const Piece& piece, PreTokenizerScratch& scratch, PieceSink sink) const;

  std::vector<std::unique_ptr<PreTokenizerStep>> steps_;
  bool ends_in_bytes_ = false;
  bool has_byte_level_ = false;
  bool has_regex_ = false;
  bool blank_before_sections_ = false;
  bool local_ = true;  // the steps so far treat a text cut there as they treat the whole
  bool cuts_before_line_break_ = false;
};

// Pieces of a text between and at the matches of `pattern` (`invert`: matches and what lies between them
// change places).
std::unique_ptr<PreTokenizerStep> make_split(std::unique_ptr<SplitPattern> pattern, SplitBehavior behavior,
                                             bool invert);
SplitBehavior parse_behavior(const JsonObject& step, const char* key, const char* fallback);

}  // namespace sepllm
