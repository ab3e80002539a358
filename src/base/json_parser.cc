// Parses JSON text. We do not use the library's parser, because it refuses what Python writes (NaN, a lone
// surrogate), takes a NUL for the end of the text, and searches objects again and again where a key may occur
// twice.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/error.h"
#include "base/json.h"
#include "base/log.h"
#include "base/utf8.h"

namespace sepllm {
namespace {

constexpr size_t kMaxDepth = 64;

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_json_blank(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }

// Where byte `at` is, counted from 1; in a text of several lines as line and column (in bytes).
std::string json_place(std::string_view text, size_t at) {
  const std::string_view before = text.substr(0, at);
  const size_t last = text.find_last_not_of("\r\n");
  const bool one_line = text.substr(0, last + 1).find('\n') == std::string_view::npos;  // npos + 1 = 0
  if (one_line) return fmt::format("byte {}", at + 1);
  return fmt::format("line {}, column {}", std::count(before.begin(), before.end(), '\n') + 1,
                     at - (before.rfind('\n') + 1) + 1);
}

class JsonScanner {
 public:
  JsonScanner(std::string_view text, const std::string& file, const JsonRules& rules, JsonEvents* handler)
      : text_(text), file_(file), rules_(rules), handler_(handler) {}

  void run() {
    if (const auto bad = utf8_find_invalid(text_)) {
      throw Error(ErrorCode::kBadFile, "invalid UTF-8 in JSON",
                  {.file = file_, .place = json_place(text_, *bad)});
    }
    if (text_.starts_with("\xef\xbb\xbf")) at_ = 3;  // a byte order mark
    value();
    skip_blanks();
    if (at_ < text_.size()) fail("something follows the value");
  }

 private:
  [[noreturn]] void fail(const std::string& what) const { fail(what, at_); }
  [[noreturn]] void fail(const std::string& what, size_t at) const {
    throw Error(ErrorCode::kBadFile, "not valid JSON: " + what,
                {.file = file_, .place = json_place(text_, at), .got = shown(at)});
  }

  // A word of the text, for messages.
  std::string shown(size_t at) const {
    if (at >= text_.size()) return "the end";
    size_t n = 1;
    while (n < 20 && at + n < text_.size() && !is_json_blank(text_[at + n]) &&
           std::string_view(",:[]{}\"").find(text_[at + n]) == std::string_view::npos) {
      ++n;
    }
    return fmt::format("'{}'", text_.substr(at, n));
  }

  void skip_blanks() {
    while (at_ < text_.size() && is_json_blank(text_[at_])) ++at_;
  }
  bool take(char c) {
    if (at_ >= text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  bool take(std::string_view word) {
    if (!text_.substr(at_).starts_with(word)) return false;
    at_ += word.size();
    return true;
  }
  static void tell(bool heard) { SEPLLM_CHECK(heard); }

  void value() {
    skip_blanks();
    if (take('{')) return object();
    if (take('[')) return array();
    if (take('"')) {
      string();
      return tell(handler_->string(string_));
    }
    if (take("true")) return tell(handler_->boolean(true));
    if (take("false")) return tell(handler_->boolean(false));
    if (take("null")) return tell(handler_->null());
    number();
  }

  void open() {
    if (depth_ >= kMaxDepth) {
      throw Error(ErrorCode::kBadFile, "JSON nested too deeply",
                  {.file = file_,
                   .place = json_place(text_, at_ - 1),
                   .expected = fmt::format("at most {} levels", kMaxDepth)});
    }
    ++depth_;
  }

  void object() {
    open();
    tell(handler_->start_object(static_cast<size_t>(-1)));
    skip_blanks();
    for (bool first = true; !take('}'); first = false) {
      if (!first && !take(',')) fail("expected ',' or '}' in an object");
      skip_blanks();
      if (!take('"')) fail(first ? "expected a key in quotes, or '}'" : "expected a key in quotes");
      string();
      tell(handler_->key(string_));
      skip_blanks();
      if (!take(':')) fail("expected ':' after a key");
      value();
      skip_blanks();
    }
    --depth_;
    tell(handler_->end_object());
  }

  void array() {
    open();
    tell(handler_->start_array(static_cast<size_t>(-1)));
    skip_blanks();
    for (bool first = true; !take(']'); first = false) {
      if (!first && !take(',')) fail("expected ',' or ']' in a list");
      value();
      skip_blanks();
    }
    --depth_;
    tell(handler_->end_array());
  }

  // Reads a string into string_; its opening quotation mark has been read.
  void string() {
    const size_t start = at_ - 1;
    string_.clear();
    for (;;) {
      const size_t from = at_;
      while (at_ < text_.size() && text_[at_] != '"' && text_[at_] != '\\' &&
             static_cast<unsigned char>(text_[at_]) >= 0x20) {
        ++at_;
      }
      string_.append(text_, from, at_ - from);
      if (at_ >= text_.size()) fail("a string without an end", start);
      if (take('"')) return;
      if (!take('\\')) fail("a control character in a string (it must be written as an escape)");
      escape();
    }
  }

  void escape() {
    if (take('u')) return unicode_escape();
    constexpr std::string_view kLetters = "\"\\/bfnrt", kMeanings = "\"\\/\b\f\n\r\t";
    const size_t which = at_ < text_.size() ? kLetters.find(text_[at_]) : std::string_view::npos;
    if (which == std::string_view::npos) fail("an unknown escape in a string", at_ - 1);
    string_ += kMeanings[which];
    ++at_;
  }

  // Reads the four hexadecimal digits after \u.
  char32_t four_digits() {
    uint32_t code = 0;
    const char* from = text_.data() + at_;
    const bool whole = text_.size() - at_ >= 4;
    if (!whole || std::from_chars(from, from + 4, code, 16).ptr != from + 4) {
      fail("expected four hexadecimal digits after \\u", at_ - 2);
    }
    at_ += 4;
    return code;
  }

  void unicode_escape() {
    const size_t start = at_ - 2;
    const auto is_low = [](char32_t c) { return c >= 0xDC00 && c <= 0xDFFF; };
    const char32_t code = four_digits();
    if (code < 0xD800 || code > 0xDFFF) return utf8_append(string_, code);
    if (!is_low(code) && text_.substr(at_).starts_with("\\u")) {
      const size_t back = at_;
      at_ += 2;
      const char32_t low = four_digits();
      if (is_low(low)) return utf8_append(string_, 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00));
      at_ = back;
    }
    if (!rules_.keep_surrogates) fail("a lone surrogate, half of a character, in a string", start);
    for (const char32_t byte : {0xE0 | (code >> 12), 0x80 | ((code >> 6) & 0x3F), 0x80 | (code & 0x3F)}) {
      string_ += static_cast<char>(byte);
    }
  }

  // Reads a number, also NaN and infinities.
  void number() {
    const size_t start = at_;
    const bool negative = take('-');
    if (!negative && take("NaN")) return tell(handler_->number_float(NAN, "NaN"));
    if (take("Infinity")) {
      return tell(
          handler_->number_float(negative ? -INFINITY : INFINITY, negative ? "-Infinity" : "Infinity"));
    }
    const auto digits = [&] {
      const size_t from = at_;
      while (at_ < text_.size() && is_digit(text_[at_])) ++at_;
      return at_ > from;
    };
    if (!take('0') && !digits()) {
      if (negative) fail("expected a digit after '-'");
      fail("expected a value", start);
    }
    bool integral = true;
    if (take('.')) {
      integral = false;
      if (!digits()) fail("expected a digit after '.'");
    }
    if (take('e') || take('E')) {
      integral = false;
      if (!take('+')) take('-');
      if (!digits()) fail("expected a digit in the exponent");
    }
    finish_number(text_.substr(start, at_ - start), integral);
  }

  void finish_number(std::string_view digits, bool integral) {
    const char* end = digits.data() + digits.size();
    if (integral && digits[0] == '-') {
      int64_t value = 0;
      if (std::from_chars(digits.data(), end, value).ec == std::errc())
        return tell(handler_->number_integer(value));
    } else if (integral) {
      uint64_t value = 0;
      if (std::from_chars(digits.data(), end, value).ec == std::errc())
        return tell(handler_->number_unsigned(value));
    }
    double value = 0;
    const std::string text(digits);
    if (std::from_chars(digits.data(), end, value).ec != std::errc())
      value = std::strtod(text.c_str(), nullptr);
    tell(handler_->number_float(value, text));
  }

  std::string_view text_;
  const std::string& file_;
  const JsonRules& rules_;
  JsonEvents* handler_;
  size_t at_ = 0, depth_ = 0;
  std::string string_;
};

// Builds the value from the events.
class JsonBuilder : public JsonEvents {
 public:
  JsonBuilder(const std::string& file, const JsonRules& rules, JsonOddities* oddities)
      : file_(file), rules_(rules), oddities_(oddities) {}
  Json take() { return std::move(root_); }

  bool null() override { return add(nullptr); }
  bool boolean(bool value) override { return add(value); }
  bool number_integer(number_integer_t value) override { return add(value); }
  bool number_unsigned(number_unsigned_t value) override { return add(value); }
  bool number_float(number_float_t value, const string_t& text) override {
    if (!std::isfinite(value)) note(text + " is no number in JSON");
    return add(value);
  }
  bool string(string_t& value) override { return add(std::move(value)); }
  bool binary(binary_t&) override { return false; }
  bool start_object(size_t) override { return open(Json::object()); }
  bool end_object() override { return close(); }
  bool start_array(size_t) override { return open(Json::array()); }
  bool end_array() override { return close(); }
  bool parse_error(size_t, const std::string&, const nlohmann::detail::exception&) override { return false; }

  bool key(string_t& key) override {
    open_.back().key = std::move(key);
    open_.back().known = find();
    if (!open_.back().known) return true;
    if (rules_.refuse_duplicates) {
      throw Error(ErrorCode::kBadFile, "duplicate key in JSON", {.file = file_, .place = path()});
    }
    note("the key occurs twice; the last one counts");
    return true;
  }

 private:
  static constexpr size_t kFew = 16;  // up to this many keys are searched one by one

  struct Open {
    Json* value;
    std::string key{};                                // of the member that is being read
    std::optional<size_t> known{};                    // the index of an earlier member with this key
    std::unordered_map<std::string, size_t> index{};  // only for objects with more than kFew keys
  };

  Json::object_t& members() { return open_.back().value->get_ref<Json::object_t&>(); }
  // The library's operator[] takes a key; this takes an index.
  auto& member(size_t i) { return *(members().begin() + static_cast<std::ptrdiff_t>(i)); }

  std::optional<size_t> find() {
    Open& object = open_.back();
    const Json::object_t& all = members();
    if (all.size() < kFew) {
      for (size_t i = 0; i < all.size(); ++i) {
        if (member(i).first == object.key) return i;
      }
      return std::nullopt;
    }
    for (size_t i = object.index.size(); i < all.size(); ++i) object.index.emplace(member(i).first, i);
    const auto it = object.index.find(object.key);
    return it == object.index.end() ? std::nullopt : std::optional(it->second);
  }

  // The path from the root to the value that is being read.
  std::string path() const {
    std::string out;
    for (const Open& o : open_) {
      const size_t inside = &o == &open_.back() ? 0 : 1;  // the parent has a place for the open value already
      if (o.value->is_object()) out += (out.empty() ? "" : ".") + o.key;
      if (o.value->is_array()) out += fmt::format("[{}]", o.value->size() - inside);
    }
    return out;
  }

  void note(const std::string& what) {
    if (oddities_->count++ == 0) oddities_->first = (open_.empty() ? "" : path() + ": ") + what;
  }

  template <typename T>
  bool add(T&& value) {
    place(Json(std::forward<T>(value)));
    return true;
  }
  Json* place(Json value) {
    if (open_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    Json& parent = *open_.back().value;
    if (parent.is_array()) {
      parent.push_back(std::move(value));
      return &parent.back();
    }
    Json::object_t& all = members();
    if (const auto known = open_.back().known) return &(member(*known).second = std::move(value));
    all.emplace_back(open_.back().key, std::move(value));
    return &all.back().second;
  }
  bool open(Json container) {
    open_.push_back({.value = place(std::move(container))});
    return true;
  }
  bool close() {
    open_.pop_back();
    return true;
  }

  const std::string& file_;
  const JsonRules& rules_;
  JsonOddities* oddities_;
  Json root_;
  std::vector<Open> open_;  // the values that are not yet complete, from the root to the innermost
};

}  // namespace

void parse_json_events(std::string_view text, const std::string& file, const JsonRules& rules,
                       JsonEvents* handler) {
  JsonScanner(text, file, rules, handler).run();
}

Json parse_json(std::string_view text, const std::string& file, const JsonRules& rules,
                JsonOddities* oddities) {
  JsonOddities own;
  JsonBuilder builder(file, rules, oddities != nullptr ? oddities : &own);
  parse_json_events(text, file, rules, &builder);
  if (own.count > 0) {
    const std::string more = own.count > 1 ? fmt::format(" (and {} more such places)", own.count - 1) : "";
    log_warning(
        Error(ErrorCode::kBadFile, own.first + more + "; read as Python's json does", {.file = file}).what());
  }
  return builder.take();
}

Json json_or_null(std::string_view text) {
  try {
    JsonOddities unused;
    return parse_json(text, "", {}, &unused);
  } catch (const Error&) {
    return nullptr;
  }
}

}  // namespace sepllm
