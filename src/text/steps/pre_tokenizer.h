// Pre-tokenizers of a tokenizer.json: they cut a text into words, and BPE merges only inside a word. Each
// step passes its pieces directly on to the next step, so no list of pieces exists.
#pragma once

#include <cstddef>
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

// Buffers of a run, reused between texts: one string for each step that rewrites its pieces.
struct PreTokenizerScratch {
  RegexScratch regex;
  std::vector<std::string> buffers;
};

class PreTokenizerStep {
 public:
  virtual ~PreTokenizerStep() = default;
  // The pieces given to `next` lie in the input piece or in `buffer`.
  virtual void run(const Piece& piece, RegexScratch& scratch, std::string& buffer, PieceSink next) const = 0;
};

enum class SplitBehavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };

class PreTokenizer {
 public:
  PreTokenizer() = default;
  // The step under the key "pre_tokenizer" of `document`: ByteLevel, Split, Digits, Punctuation, Whitespace,
  // WhitespaceSplit, BertPreTokenizer, CharDelimiterSplit, Metaspace, or a sequence of them. Error
  // (kUnsupported) for any other.
  explicit PreTokenizer(const JsonObject& document);

  // The steps of GPT-2 and Llama 3: cut by a known pattern, then bytes.
  static PreTokenizer byte_level(const char* pattern, bool add_prefix_space = false);

  // Calls `sink` for each word of `text`, a part of the input without added tokens, in order.
  void run(const Piece& text, PreTokenizerScratch& scratch, PieceSink sink) const;

  // Whether the last step is ByteLevel. Its alphabet is then left out: the model works directly on the bytes.
  bool ends_in_bytes() const { return ends_in_bytes_; }
  // Whether no word crosses the place between an ASCII letter and a line break after it, whatever is around.
  bool cuts_before_line_break() const { return cuts_before_line_break_; }
  // Whether a blank is put before the text after each added token, and nowhere else.
  bool blank_before_sections() const { return blank_before_sections_; }
  // Whether there is a ByteLevel step anywhere.
  bool has_byte_level() const { return has_byte_level_; }

 private:
  void add_step(const JsonObject& step, const std::string& type);
  // Adds a step that cuts at characters of a class. Returns false if it is not one of those.
  bool add_class_step(const JsonObject& step, const std::string& type);
  void add_byte_level(bool add_prefix_space, const char* pattern);  // nullptr: none
  void add_words(std::unique_ptr<SplitPattern> pattern, SplitBehavior behavior, bool invert);
  void run_from(size_t step, const Piece& piece, PreTokenizerScratch& scratch, PieceSink sink) const;

  std::vector<std::unique_ptr<PreTokenizerStep>> steps_;
  bool ends_in_bytes_ = false;
  bool has_byte_level_ = false;
  bool has_regex_ = false;
  bool blank_before_sections_ = false;
  bool local_ = true;  // whether the steps so far treat the parts of a cut text in the same way as the whole
  bool cuts_before_line_break_ = false;
};

// Makes pieces of the matches of `pattern` and of the text between them (`invert`: the two change places).
std::unique_ptr<PreTokenizerStep> make_split(std::unique_ptr<SplitPattern> pattern, SplitBehavior behavior,
                                             bool invert);
SplitBehavior parse_behavior(const JsonObject& step, const char* key, const char* fallback);

}  // namespace sepllm
