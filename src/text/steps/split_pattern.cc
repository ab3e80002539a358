#include "text/steps/split_pattern.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "text/steps/unicode_class.h"

namespace sepllm {
namespace {

class RegexPattern : public SplitPattern {
 public:
  RegexPattern(std::string_view regex, const std::string& file, const std::string& place)
      : regex_(regex, file, place) {}
  std::optional<Span> find(std::string_view text, size_t from, RegexScratch& scratch) const override {
    return regex_.find(text, from, scratch);
  }
  bool is_regex() const override { return true; }

 private:
  Regex regex_;
};

class ScannerPattern : public SplitPattern {
 public:
  explicit ScannerPattern(WordScanner scanner) : scanner_(scanner) {}
  std::optional<Span> find(std::string_view text, size_t from, RegexScratch&) const override {
    if (from >= text.size()) return std::nullopt;
    return Span{from, scanner_(text, from)};
  }
  WordScanner scanner() const override { return scanner_; }

 private:
  WordScanner scanner_;
};

class StringPattern : public SplitPattern {
 public:
  explicit StringPattern(std::string needle) : needle_(std::move(needle)) {}
  std::optional<Span> find(std::string_view text, size_t from, RegexScratch&) const override {
    if (needle_.empty()) return std::nullopt;
    const size_t at = text.find(needle_, from);
    if (at == std::string_view::npos) return std::nullopt;
    return Span{at, at + needle_.size()};
  }

 private:
  std::string needle_;
};

class ClassPattern : public SplitPattern {
 public:
  explicit ClassPattern(uint8_t mask) : mask_(mask), classes_(unicode_classes()) {}
  std::optional<Span> find(std::string_view text, size_t from, RegexScratch&) const override {
    int length = 0;
    for (size_t at = from; at < text.size(); at += static_cast<size_t>(length)) {
      if ((classes_[decode_valid_utf8(text.data() + at, length)] & mask_) != 0) {
        return Span{at, at + static_cast<size_t>(length)};
      }
    }
    return std::nullopt;
  }

 private:
  uint8_t mask_;
  const uint8_t* classes_;
};

// [0-9][0-9][0-9], which Falcon's files apply to every word.
class ThreeDigits : public SplitPattern {
 public:
  std::optional<Span> find(std::string_view text, size_t from, RegexScratch&) const override {
    size_t run = 0;
    for (size_t at = from; at < text.size(); ++at) {
      run = text[at] >= '0' && text[at] <= '9' ? run + 1 : 0;
      if (run == 3) return Span{at - 2, at + 1};
    }
    return std::nullopt;
  }
};

}  // namespace

std::unique_ptr<SplitPattern> make_regex_pattern(std::string_view regex, const std::string& file,
                                                 const std::string& place) {
  if (const WordScanner scanner = find_word_scanner(regex)) return std::make_unique<ScannerPattern>(scanner);
  if (regex == "[0-9][0-9][0-9]") return std::make_unique<ThreeDigits>();
  return std::make_unique<RegexPattern>(regex, file, place);
}

std::unique_ptr<SplitPattern> make_string_pattern(std::string text) {
  return std::make_unique<StringPattern>(std::move(text));
}

std::unique_ptr<SplitPattern> make_class_pattern(uint8_t mask) {
  return std::make_unique<ClassPattern>(mask);
}

std::unique_ptr<SplitPattern> parse_pattern(const JsonObject& owner, const char* key) {
  const JsonObject pattern = owner.object(key);
  if (pattern.json().size() == 1 && pattern.has("Regex")) {
    return make_regex_pattern(pattern.string("Regex"), owner.file(), pattern.path_of("Regex"));
  }
  if (pattern.json().size() == 1 && pattern.has("String"))
    return make_string_pattern(pattern.string("String"));
  throw Error(ErrorCode::kUnsupported, "unknown kind of pattern",
              {.file = owner.file(), .place = owner.path_of(key), .expected = "Regex or String"});
}

}  // namespace sepllm
