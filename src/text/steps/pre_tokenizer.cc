#include "text/steps/pre_tokenizer.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "base/byte_alphabet.h"
#include "base/error.h"
#include "text/steps/json_step.h"
#include "text/steps/unicode_class.h"

namespace sepllm {
namespace {

constexpr size_t kMaxSteps = 64;

// ByteLevel's blank before every text that does not begin with one (only U+0020 counts as a blank).
class PrefixSpace : public PreTokenizerStep {
 public:
  // `words`: an earlier step ends a word wherever texts may be cut, so each part begins a piece in the whole
  // text, too.
  explicit PrefixSpace(bool words) : words_(words) {}

  void run(const Piece& piece, RegexScratch&, std::string& buffer, PieceSink next) const override {
    if (piece.text[0] == ' ' || (piece.continued && !words_)) return next(piece);
    buffer.assign(1, ' ');
    buffer += piece.text;
    next({buffer, piece.first});
  }

 private:
  bool words_;
};

class ByteEncode : public PreTokenizerStep {
 public:
  void run(const Piece& piece, RegexScratch&, std::string& buffer, PieceSink next) const override {
    buffer.clear();
    append_byte_level(buffer, piece.text);
    next({buffer, piece.first});
  }
};

// Splits into runs of word characters and runs of other characters; white space is removed.
class WordRuns : public PreTokenizerStep {
 public:
  void run(const Piece& piece, RegexScratch&, std::string&, PieceSink next) const override {
    const auto kind_at = [&](size_t at, int& length) {
      return classes_[decode_valid_utf8(piece.text.data() + at, length)] & (kSpace | kWord);
    };
    int length = 0;
    for (size_t at = 0, end = 0; at < piece.text.size(); at = end) {
      const int kind = kind_at(at, length);
      end = at + static_cast<size_t>(length);
      while (end < piece.text.size() && kind_at(end, length) == kind) end += static_cast<size_t>(length);
      if (kind == kSpace) continue;
      next({piece.text.substr(at, end - at), piece.first && at == 0, piece.continued && at == 0});
    }
  }

 private:
  const uint8_t* classes_ = unicode_classes();
};

// Replaces blanks by `mark`, which is also put before the text as `scheme` says.
class Metaspace : public PreTokenizerStep {
 public:
  enum class Scheme { kAlways, kFirst, kNever };
  Metaspace(std::string mark, Scheme scheme) : mark_(std::move(mark)), scheme_(scheme) {}

  void run(const Piece& piece, RegexScratch&, std::string& buffer, PieceSink next) const override {
    buffer.clear();
    const bool marked = piece.text[0] == ' ' || piece.text.starts_with(mark_);
    if (!marked && (scheme_ == Scheme::kAlways || (scheme_ == Scheme::kFirst && piece.first)))
      buffer += mark_;
    for (const char c : piece.text) {
      if (c == ' ') {
        buffer += mark_;
      } else {
        buffer += c;
      }
    }
    next({buffer, piece.first});
  }

 private:
  std::string mark_;
  Scheme scheme_;
};

Metaspace::Scheme parse_scheme(const JsonObject& step) {
  const bool add = step.boolean_or("add_prefix_space", true);
  const std::string name = step.string_or("prepend_scheme", add ? "always" : "never");
  if (!add && name != "never") {
    throw Error(ErrorCode::kBadFile, "add_prefix_space is false but prepend_scheme is not \"never\"",
                {.file = step.file(), .place = step.path_of("prepend_scheme"), .got = name});
  }
  if (name == "always") return Metaspace::Scheme::kAlways;
  if (name == "first") return Metaspace::Scheme::kFirst;
  if (name == "never") return Metaspace::Scheme::kNever;
  throw Error(ErrorCode::kUnsupported, "unknown prepend scheme",
              {.file = step.file(), .place = step.path_of("prepend_scheme"), .got = name});
}

}  // namespace

PreTokenizer::PreTokenizer(const JsonObject& document) {
  for_each_step(document, "pre_tokenizer", "pretokenizers",
                [&](const JsonObject& step, const std::string& type) { add_step(step, type); });
}

PreTokenizer PreTokenizer::byte_level(const char* pattern, bool add_prefix_space) {
  PreTokenizer result;
  result.add_byte_level(add_prefix_space, pattern);
  return result;
}

void PreTokenizer::add_step(const JsonObject& step, const std::string& type) {
  if (steps_.size() >= kMaxSteps) {  // each step is a nested call on the stack
    throw Error(ErrorCode::kOutOfRange, "too many pre-tokenizers",
                {.file = step.file(), .place = step.path_of("type")});
  }
  if (ends_in_bytes_) {  // later steps see the alphabet, so it must be written after all
    steps_.push_back(std::make_unique<ByteEncode>());
    ends_in_bytes_ = local_ = false;
  }
  if (type == "ByteLevel") {
    refuse_unknown_keys(step, {"type", "add_prefix_space", "trim_offsets", "use_regex"});
    if (has_byte_level_) {  // each ByteLevel would double the text
      throw Error(ErrorCode::kUnsupported, "more than one ByteLevel pre-tokenizer",
                  {.file = step.file(), .place = step.path_of("type")});
    }
    add_byte_level(step.boolean_or("add_prefix_space", true),
                   step.boolean_or("use_regex", true) ? kGpt2Pattern : nullptr);
  } else if (type == "Split") {
    refuse_unknown_keys(step, {"type", "pattern", "behavior", "invert"});
    const SplitBehavior behavior = parse_behavior(step, "behavior", "");
    add_words(parse_pattern(step, "pattern"), behavior, step.boolean_or("invert", false));
  } else if (type == "Metaspace") {
    refuse_unknown_keys(step,
                        {"type", "replacement", "str_rep", "add_prefix_space", "prepend_scheme", "split"});
    const std::string mark = single_character(step, "replacement");
    local_ = false;
    steps_.push_back(std::make_unique<Metaspace>(mark, parse_scheme(step)));
    if (step.boolean_or("split", true)) {
      steps_.push_back(make_split(make_string_pattern(mark), SplitBehavior::kMergedWithNext, false));
    }
  } else if (!add_class_step(step, type)) {
    unknown_step(step, type);
  }
}

bool PreTokenizer::add_class_step(const JsonObject& step, const std::string& type) {
  const auto add = [&](std::unique_ptr<SplitPattern> pattern, SplitBehavior behavior) {
    steps_.push_back(make_split(std::move(pattern), behavior, false));
  };
  if (type == "Digits") {
    refuse_unknown_keys(step, {"type", "individual_digits"});
    const bool individual = step.boolean_or("individual_digits", false);
    add(make_class_pattern(kNumeric), individual ? SplitBehavior::kIsolated : SplitBehavior::kContiguous);
  } else if (type == "Punctuation") {
    refuse_unknown_keys(step, {"type", "behavior"});
    add(make_class_pattern(kPunctuation), parse_behavior(step, "behavior", "Isolated"));
  } else if (type == "CharDelimiterSplit") {
    refuse_unknown_keys(step, {"type", "delimiter"});
    add(make_string_pattern(single_character(step, "delimiter")), SplitBehavior::kRemoved);
  } else if (type == "WhitespaceSplit" || type == "Whitespace" || type == "BertPreTokenizer") {
    refuse_unknown_keys(step, {"type"});
    cuts_before_line_break_ |= local_;  // white space of any kind ends words
    if (type == "Whitespace") {
      steps_.push_back(std::make_unique<WordRuns>());
    } else {
      add(make_class_pattern(kSpace), SplitBehavior::kRemoved);
    }
    if (type == "BertPreTokenizer") add(make_class_pattern(kPunctuation), SplitBehavior::kIsolated);
  } else {
    return false;
  }
  return true;
}

void PreTokenizer::add_byte_level(bool add_prefix_space, const char* pattern) {
  if (add_prefix_space) {
    blank_before_sections_ = !cuts_before_line_break_;
    steps_.push_back(std::make_unique<PrefixSpace>(cuts_before_line_break_));
  }
  if (pattern != nullptr) {
    add_words(make_regex_pattern(pattern, "", ""), SplitBehavior::kIsolated, false);
  }
  ends_in_bytes_ = has_byte_level_ = true;
}

// The patterns with a scanner end every word of letters before a line break, without looking at what follows.
void PreTokenizer::add_words(std::unique_ptr<SplitPattern> pattern, SplitBehavior behavior, bool invert) {
  has_regex_ = has_regex_ || pattern->is_regex();
  if (pattern->scanner() == nullptr || behavior != SplitBehavior::kIsolated) {
    local_ = false;
  } else if (local_) {
    cuts_before_line_break_ = true;
  }
  steps_.push_back(make_split(std::move(pattern), behavior, invert));
}

void PreTokenizer::run(const Piece& text, PreTokenizerScratch& scratch, PieceSink sink) const {
  if (text.text.empty()) return;
  scratch.buffers.resize(steps_.size());
  if (has_regex_) scratch.regex.look_at(text.text);
  run_from(0, text, scratch, sink);
}

void PreTokenizer::run_from(size_t step, const Piece& piece, PreTokenizerScratch& scratch,
                            PieceSink sink) const {
  if (step == steps_.size()) return sink(piece);
  steps_[step]->run(piece, scratch.regex, scratch.buffers[step],
                    [&](const Piece& part) { run_from(step + 1, part, scratch, sink); });
}

}  // namespace sepllm
