#include "text/steps/oniguruma.h"

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "text/steps/regex_class.h"

namespace sepllm {
namespace {

const RegexClass& known_class(const char* name) { return *RegexClass::find(name); }

// The class that \c stands for; the capital letter stands for its complement.
const RegexClass* shorthand(char c) {
  switch (c) {
    case 's':
      return &known_class("space");
    case 'w':
      return &known_class("word");
    case 'd':
      return &known_class("digit");
    case 'h':
      return &known_class("xdigit");
    default:
      return nullptr;
  }
}

bool is_hex(char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); }

// Rewrites one pattern, character by character; it knows only escapes and where a class begins and ends.
class Translator {
 public:
  Translator(std::string_view pattern, RegexTexts texts, const std::string& file, const std::string& place)
      : in_(pattern), texts_(texts), file_(file), place_(place) {}

  std::string run() {
    while (at_ < in_.size()) step();
    return std::move(out_);
  }

 private:
  [[noreturn]] void unsupported(const std::string& what) const {
    throw Error(ErrorCode::kUnsupported, "regular expression uses " + what, {.file = file_, .place = place_});
  }

  void step() {
    const char c = in_[at_];
    if (c == '\\' && at_ + 1 < in_.size()) return escape(in_[at_ + 1]);
    if (in_class_) return inside_class(c);
    if (c == '[') return open_class();
    copy(1);
  }

  void copy(size_t bytes) {
    out_ += in_.substr(at_, bytes);
    at_ += bytes;
  }

  void put(const RegexClass& members, bool negated) {
    out_ += in_class_ ? members.inside_brackets(negated, texts_) : members.outside_brackets(negated, texts_);
  }

  void open_class() {
    in_class_ = true;
    copy(1);
    if (at_ < in_.size() && in_[at_] == '^') copy(1);
    if (at_ < in_.size() && in_[at_] == ']') {  // a literal in this place
      out_ += "\\]";
      ++at_;
    }
  }

  void inside_class(char c) {
    const char next = at_ + 1 < in_.size() ? in_[at_ + 1] : '\0';
    if (c == ']') in_class_ = false;
    if (c == '&' && next == '&') unsupported("an intersection of character classes (&&)");
    if (c == '[' && next == ':') return posix_class();
    if (c == '[') unsupported("a nested character class");
    copy(1);
  }

  // [:name:] or [:^name:]
  void posix_class() {
    const size_t close = in_.find(":]", at_ + 2);
    if (close == std::string_view::npos) unsupported("an unfinished POSIX class");
    std::string_view name = in_.substr(at_ + 2, close - at_ - 2);
    const bool negated = name.starts_with('^');
    if (negated) name.remove_prefix(1);
    const RegexClass* members = RegexClass::find_posix(name);
    if (members == nullptr) return copy(close + 2 - at_);
    put(*members, negated);
    at_ = close + 2;
  }

  void escape(char c) {
    const char small = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
    if (const RegexClass* members = shorthand(small)) {
      put(*members, c != small);
      at_ += 2;
    } else if (small == 'p' && at_ + 2 < in_.size() && in_[at_ + 2] == '{') {
      property(c == 'P');
    } else if (small == 'b' && !in_class_) {
      word_boundary(c == 'B');
    } else if (c == 'u' && four_hex_digits()) {
      out_ += "\\x{" + std::string(in_.substr(at_ + 2, 4)) + "}";
      at_ += 6;
    } else {
      copy(2);
    }
  }

  bool four_hex_digits() const {
    if (in_.size() - at_ < 6) return false;
    for (size_t k = 2; k < 6; ++k) {
      if (!is_hex(in_[at_ + k])) return false;
    }
    return true;
  }

  // \p{name}, \p{^name}, \P{name}
  void property(bool negated) {
    const size_t close = in_.find('}', at_);
    if (close == std::string_view::npos) return copy(2);  // PCRE2 reports the error
    std::string_view name = in_.substr(at_ + 3, close - at_ - 3);
    if (name.starts_with('^')) {
      negated = !negated;
      name.remove_prefix(1);
    }
    const RegexClass* members = RegexClass::find(name);
    if (members == nullptr) return copy(close + 1 - at_);
    put(*members, negated);
    at_ = close + 1;
  }

  void word_boundary(bool negated) {
    const std::string word = known_class("word").outside_brackets(false, texts_);
    const std::string before = "(?<=" + word + ")", not_before = "(?<!" + word + ")";
    const std::string after = "(?=" + word + ")", not_after = "(?!" + word + ")";
    out_ += negated ? "(?:" + before + after + "|" + not_before + not_after + ")"
                    : "(?:" + before + not_after + "|" + not_before + after + ")";
    at_ += 2;
  }

  std::string_view in_;
  RegexTexts texts_;
  const std::string& file_;
  const std::string& place_;
  std::string out_;
  size_t at_ = 0;
  bool in_class_ = false;
};

}  // namespace

std::string translate_oniguruma(std::string_view pattern, RegexTexts texts, const std::string& file,
                                const std::string& place) {
  return Translator(pattern, texts, file, place).run();
}

}  // namespace sepllm
