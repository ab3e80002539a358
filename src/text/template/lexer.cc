#include "text/template/lexer.h"

#include <array>
#include <cctype>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/utf8.h"
#include "text/template/characters.h"

namespace sepllm::jinja {
namespace {

using Type = Token::Type;

[[noreturn]] void refuse(int line, std::string message) {
  throw Failure{ErrorCode::kBadFile, std::move(message), line};
}

// Turns all line breaks into line feeds, and removes one at the end.
std::string with_line_feeds(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (size_t at = 0; at < source.size(); ++at) {
    if (source[at] == '\r' && at + 1 < source.size() && source[at + 1] == '\n') continue;
    out += source[at] == '\r' ? '\n' : source[at];
  }
  if (out.ends_with('\n')) out.pop_back();
  return out;
}

bool is_digit_of(char c, int base) {
  const int value = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : 99;
  return value < base;
}

bool begins_name(char c) {
  return c == '_' || std::isalpha(static_cast<unsigned char>(c)) != 0 || (c & 0x80) != 0;
}
bool continues_name(char c) { return begins_name(c) || is_digit_of(c, 10); }

class Lexer {
 public:
  explicit Lexer(std::string_view source) : owned_(with_line_feeds(source)), source_(owned_) {}

  std::vector<Token> run() {
    while (at_ < source_.size()) data();
    tokens_.push_back({Type::kEnd, "", line_});
    return std::move(tokens_);
  }

 private:
  char peek(size_t ahead = 0) const { return at_ + ahead < source_.size() ? source_[at_ + ahead] : '\0'; }
  bool at(std::string_view text) const { return source_.substr(at_).starts_with(text); }

  void skip(size_t n) {
    for (; n > 0; --n) line_ += source_[at_++] == '\n';
  }
  void skip_space() {
    while (at_ < source_.size()) {
      size_t length;
      if (!is_space(code_point_at(source_, at_, length))) break;
      skip(length);
    }
  }
  void add(Type type, std::string text, int line) { tokens_.push_back({type, std::move(text), line}); }

  // Reads text up to the next tag, and this tag.
  void data() {
    size_t tag = at_;
    while ((tag = source_.find('{', tag)) != std::string_view::npos) {
      const char next = tag + 1 < source_.size() ? source_[tag + 1] : '\0';
      if (next == '{' || next == '%' || next == '#') break;
      ++tag;
    }
    if (tag == std::string_view::npos) {
      text(source_.size(), '+', false);
      return;
    }
    const char kind = source_[tag + 1];
    const char sign = tag + 2 < source_.size() ? source_[tag + 2] : '\0';
    text(tag, sign, kind != '{');
    skip(2);
    if (sign == '-' || sign == '+') skip(1);
    if (kind == '#') {
      comment();
    } else if (kind == '%' && !raw()) {
      add(Type::kBlockBegin, "", line_);
      tag_tokens(Type::kBlockEnd);
    } else if (kind == '{') {
      add(Type::kVariableBegin, "", line_);
      tag_tokens(Type::kVariableEnd);
    }
  }

  // Reads the text until `end`, before a tag with this sign; blanks before a block at the start of a line are
  // removed.
  void text(size_t end, char sign, bool before_block) {
    std::string_view part = source_.substr(at_, end - at_);
    const int line = line_;
    Budget budget{Limits{}};
    if (sign == '-') {
      part = part.substr(0, strip(part, Sides::kRight, budget).end);
    } else if (sign != '+' && before_block) {
      const size_t feed = part.rfind('\n');
      const size_t start = feed == std::string_view::npos ? 0 : feed + 1;
      const bool starts_line = feed != std::string_view::npos || line_starts_;
      const std::string_view blanks = part.substr(start);
      if (starts_line && strip(blanks, Sides::kRight, budget).end == 0) part = part.substr(0, start);
    }
    if (!part.empty()) add(Type::kData, std::string(part), line);
    skip(end - at_);
    line_starts_ = false;
  }

  // After "%}" or "#}": removes the white space that belongs to it. `sign`: the character before.
  void after_block(char sign) {
    const size_t begin = at_;
    if (sign == '-') {
      skip_space();
    } else if (sign != '+' && peek() == '\n') {
      skip(1);
    }
    line_starts_ = at_ > begin && source_[at_ - 1] == '\n';
  }

  void comment() {
    const int line = line_;
    const size_t end = source_.find("#}", at_);
    if (end == std::string_view::npos) refuse(line, "missing end of comment tag");
    const char sign = end > at_ ? source_[end - 1] : '\0';
    skip(end + 2 - at_);
    after_block(sign);
  }

  // After "{%": takes everything up to the end of a raw block unchanged.
  bool raw() {
    const size_t begin = at_;
    const int line = line_;
    skip_space();
    if (at("raw")) {
      skip(3);
      skip_space();
      const char sign = peek() == '-' ? '-' : '\0';
      if (at(sign == '-' ? "-%}" : "%}")) {
        skip(sign == '-' ? 3 : 2);
        line_starts_ = false;
        if (sign == '-') after_block('-');
        raw_text(line);
        return true;
      }
    }
    at_ = begin;
    line_ = line;
    return false;
  }

  void raw_text(int line) {
    for (size_t tag = source_.find("{%", at_); tag != std::string_view::npos;
         tag = source_.find("{%", tag + 2)) {
      const char sign = tag + 2 < source_.size() ? source_[tag + 2] : '\0';
      size_t end = after_space(tag + (sign == '-' || sign == '+' ? 3 : 2));
      if (!source_.substr(end).starts_with("endraw")) continue;
      end = after_space(end + 6);
      const char end_sign = end < source_.size() ? source_[end] : '\0';
      if (end_sign == '-' || end_sign == '+') ++end;
      if (!source_.substr(end).starts_with("%}")) continue;
      text(tag, sign, true);
      skip(end + 2 - at_);
      after_block(end_sign);
      return;
    }
    refuse(line, "missing end of raw directive");
  }

  size_t after_space(size_t at) const {
    size_t length = 0;
    while (at < source_.size() && is_space(code_point_at(source_, at, length))) at += length;
    return at;
  }

  void tag_tokens(Type end) {
    const std::string_view close = end == Type::kBlockEnd ? "%}" : "}}";
    std::string open;  // open brackets
    const int line = line_;
    for (;;) {
      // White space is skipped before the end is looked for, because "-%}" may follow it.
      skip_space();
      if (at_ >= source_.size()) refuse(line, "a tag that does not end");
      const bool signed_end = (peek() == '-' || (peek() == '+' && end == Type::kBlockEnd)) &&
                              source_.substr(at_ + 1).starts_with(close);
      if (open.empty() && (signed_end || at(close))) {
        const char sign = signed_end ? peek() : '\0';
        add(end, "", line_);
        skip(signed_end ? 3 : 2);
        // The line feed after a variable is kept.
        if (end == Type::kBlockEnd || sign == '-') {
          after_block(sign);
        } else {
          line_starts_ = false;
        }
        return;
      }
      one_token(open);
    }
  }

  void one_token(std::string& open) {
    const char c = peek();
    if (is_digit_of(c, 10)) return number();
    if (c == '\'' || c == '"') return string(c);
    if (begins_name(c)) return name();
    constexpr std::array<std::string_view, 26> kOperators = {
        "//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[",
        "]",  "(",  ")",  "{",  "}",  ">",  "<", "=", ".", ":", "|", ",", ";"};
    for (const std::string_view op : kOperators) {
      if (!at(op)) continue;
      balance(op[0], open);
      add(Type::kOperator, std::string(op), line_);
      skip(op.size());
      return;
    }
    refuse(line_, std::string("unexpected character '") + c + "'");
  }

  void balance(char c, std::string& open) const {
    constexpr std::string_view kOpen = "([{", kClose = ")]}";
    if (const size_t k = kOpen.find(c); k != std::string_view::npos) {
      open += kClose[k];
    } else if (kClose.find(c) != std::string_view::npos) {
      if (open.empty() || open.back() != c) {
        const std::string expected = open.empty() ? "" : std::string(", expected '") + open.back() + "'";
        refuse(line_, std::string("unexpected '") + c + "'" + expected);
      }
      open.pop_back();
    }
  }

  void name() {
    const size_t begin = at_;
    while (at_ < source_.size() && continues_name(source_[at_])) ++at_;
    const std::string_view text = source_.substr(begin, at_ - begin);
    for (const char c : text) {
      if ((c & 0x80) != 0) refuse(line_, "a name with letters outside ASCII is not supported");
    }
    add(Type::kName, std::string(text), line_);
  }

  // How many bytes the digits (with single underscores between them) from at_ + `from` on take.
  size_t digits(size_t from, int base, bool underscore_first = false) const {
    size_t n = 0;
    for (;;) {
      const bool underscore = peek(from + n) == '_' && (n > 0 || underscore_first);
      if (!is_digit_of(peek(from + n + (underscore ? 1 : 0)), base)) return n;
      n += underscore ? 2 : 1;
    }
  }

  void number() {
    const bool after_dot = at_ > 0 && source_[at_ - 1] == '.';
    if (const size_t n = after_dot ? 0 : float_size(); n > 0) return take_number(Type::kFloat, n);
    const char second = static_cast<char>(std::tolower(static_cast<unsigned char>(peek(1))));
    if (peek() == '0' && (second == 'x' || second == 'o' || second == 'b')) {
      const size_t n = digits(2, second == 'x' ? 16 : second == 'o' ? 8 : 2, true);
      if (n > 0) return take_number(Type::kInteger, 2 + n);
    }
    take_number(Type::kInteger, digits(0, peek() == '0' ? 1 : 10));
  }

  // The length of a float that begins here, or 0.
  size_t float_size() const {
    size_t n = digits(0, 10);
    size_t fraction = peek(n) == '.' ? digits(n + 1, 10) : 0;
    if (fraction > 0) n += 1 + fraction;
    size_t exponent = 0;
    if (peek(n) == 'e' || peek(n) == 'E') {
      const size_t sign = peek(n + 1) == '+' || peek(n + 1) == '-' ? 1 : 0;
      exponent = digits(n + 1 + sign, 10);
      if (exponent > 0) n += 1 + sign + exponent;
    }
    return fraction > 0 || exponent > 0 ? n : 0;
  }

  void take_number(Type type, size_t n) {
    std::string text;
    for (const char c : source_.substr(at_, n)) {
      if (c != '_') text += c;
    }
    add(type, std::move(text), line_);
    skip(n);
  }

  void string(char quote) {
    const int line = line_;
    size_t end = at_ + 1;
    while (end < source_.size() && source_[end] != quote) end += source_[end] == '\\' ? 2 : 1;
    if (end >= source_.size()) refuse(line, "a string that does not end");
    std::string value = unescape(source_.substr(at_ + 1, end - at_ - 1), line);
    add(Type::kString, std::move(value), line);
    skip(end + 1 - at_);
  }

  static std::string unescape(std::string_view text, int line) {
    std::string out;
    for (size_t at = 0; at < text.size();) {
      if (text[at] != '\\') {
        out += text[at++];
      } else {
        at += escape(text.substr(at), out, line);
      }
    }
    if (utf8_find_invalid(out)) refuse(line, "a string with half a surrogate pair");
    return out;
  }

  // Python's escapes. `text` begins with a backslash and has another byte; returns how many bytes it took.
  static size_t escape(std::string_view text, std::string& out, int line) {
    constexpr std::string_view kLetters = "\n\\'\"abfnrtv";
    constexpr std::string_view kValues = "\n\\'\"\a\b\f\n\r\t\v";
    const char c = text[1];
    if (const size_t k = kLetters.find(c); k != std::string_view::npos) {
      if (c != '\n') out += kValues[k];
      return 2;
    }
    size_t n_digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    size_t begin = 2;
    int base = 16;
    if (is_digit_of(c, 8)) {
      begin = 1;
      base = 8;
      while (n_digits < 3 && 1 + n_digits < text.size() && is_digit_of(text[1 + n_digits], 8)) ++n_digits;
    }
    if (c == 'N')
      throw Failure{ErrorCode::kUnsupported, "characters by name (\\N{...}) are not supported", line};
    if ((c & 0x80) != 0) {
      throw Failure{ErrorCode::kUnsupported, "a backslash before a character outside ASCII is not supported",
                    line};
    }
    if (n_digits == 0) {  // not an escape: both characters stay
      out += '\\';
      return 1;
    }
    uint32_t code = 0;
    for (size_t k = 0; k < n_digits; ++k) {
      const char digit = begin + k < text.size() ? text[begin + k] : ' ';
      if (!is_digit_of(digit, base)) refuse(line, "a truncated escape in a string");
      code = code * static_cast<uint32_t>(base) +
             static_cast<uint32_t>(std::stoi(std::string(1, digit), nullptr, 16));
    }
    const bool surrogate = code >= 0xD800 && code < 0xE000;
    if (surrogate || code > 0x10FFFF) refuse(line, "an escape that is not a character");
    utf8_append(out, static_cast<char32_t>(code));
    return begin + n_digits;
  }

  std::string owned_;
  std::string_view source_;
  size_t at_ = 0;
  int line_ = 1;
  bool line_starts_ = true;
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> tokenize(std::string_view source) { return Lexer(source).run(); }

}  // namespace sepllm::jinja
