// What a pre-tokenizer or normalizer looks for in a text: a regular expression, a string, or characters of a
// class.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/json.h"
#include "text/steps/regex.h"
#include "text/steps/word_scanners.h"

namespace sepllm {

class SplitPattern {
 public:
  virtual ~SplitPattern() = default;
  // The first match at or after byte `from` of `text` (valid UTF-8); may be empty.
  virtual std::optional<Span> find(std::string_view text, size_t from, RegexScratch& scratch) const = 0;
  // If matches always tile the text: the function that finds them without this interface. Otherwise nullptr.
  virtual WordScanner scanner() const { return nullptr; }
  // Whether it is a regular expression, which is faster after RegexScratch::look_at() has seen the text.
  virtual bool is_regex() const { return false; }
};

std::unique_ptr<SplitPattern> make_regex_pattern(std::string_view regex, const std::string& file,
                                                 const std::string& place);
std::unique_ptr<SplitPattern> make_string_pattern(std::string text);
// Matches single characters with any flag of `mask` (unicode_class.h).
std::unique_ptr<SplitPattern> make_class_pattern(uint8_t mask);

// Reads the value of `key`: {"Regex": "..."} or {"String": "..."}. Errors name the key.
std::unique_ptr<SplitPattern> parse_pattern(const JsonObject& owner, const char* key);

}  // namespace sepllm
