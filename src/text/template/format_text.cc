// Python's two ways to put values into a text: "%s" % value and "{}".format(value).
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/template/characters.h"
#include "text/template/compare.h"
#include "text/template/interpreter.h"
#include "text/template/python_form.h"

namespace sepllm::jinja {
namespace {

constexpr int64_t kMostWidth = 10'000;

// %[(name)][flags][width][.precision]type
struct PercentSpec {
  std::string name;
  bool left = false, zero = false, plus = false, blank = false;
  int64_t width = 0;
  std::optional<int64_t> precision;
  char type = '\0';
};

class PercentFormat {
 public:
  PercentFormat(Interpreter& run, const Text& format, const Value& values)
      : run_(run), text_(format.text), bytes_(format.text.bytes()), values_(values) {
    const List* list = values.as_list();
    tuple_ = list != nullptr && list->kind == List::Kind::kTuple ? list : nullptr;
  }

  Value apply() {
    run_.budget().make(bytes_.size());
    while (at_ < bytes_.size()) {
      const size_t sign = bytes_.find('%', at_);
      const size_t end = sign == std::string_view::npos ? bytes_.size() : sign;
      out_.append(text_, at_, end);
      at_ = end;
      if (at_ == bytes_.size()) break;
      const Origin origin = text_.origin_at(at_++);
      const PercentSpec spec = read_spec();
      if (spec.type == '%') {
        out_.append("%", origin);
      } else {
        append(spec);
      }
    }
    const bool all_used =
        tuple_ != nullptr ? used_ == tuple_->items.size() : used_ > 0 || values_.as_dict() != nullptr;
    if (!all_used) fail("not all arguments are used by the format");
    return Value::text(std::move(out_));
  }

 private:
  char take() {
    if (at_ >= bytes_.size()) fail("an incomplete format");
    return bytes_[at_++];
  }
  int64_t number() {
    int64_t value = 0;
    for (; at_ < bytes_.size() && bytes_[at_] >= '0' && bytes_[at_] <= '9'; ++at_) {
      value = std::min<int64_t>(value * 10 + (bytes_[at_] - '0'), kMostWidth + 1);
    }
    if (value > kMostWidth) fail("a format wider than " + std::to_string(kMostWidth));
    return value;
  }

  PercentSpec read_spec() {
    PercentSpec spec;
    if (at_ < bytes_.size() && bytes_[at_] == '(') {
      const size_t end = bytes_.find(')', at_);
      if (end == std::string_view::npos) fail("an incomplete format");
      spec.name = bytes_.substr(at_ + 1, end - at_ - 1);
      at_ = end + 1;
    }
    for (;;) {
      const char c = take();
      if (c == '-') {
        spec.left = true;
      } else if (c == '0') {
        spec.zero = true;
      } else if (c == '+') {
        spec.plus = true;
      } else if (c == ' ') {
        spec.blank = true;
      } else {
        --at_;
        break;
      }
    }
    spec.width = number();
    if (at_ < bytes_.size() && bytes_[at_] == '.') {
      ++at_;
      spec.precision = number();
    }
    spec.type = take();
    return spec;
  }

  Value next(const PercentSpec& spec) {
    if (!spec.name.empty()) {
      if (values_.as_dict() == nullptr) fail("a format by names needs a dictionary");
      const Value* value =
          find_key(*values_.as_dict(), Value::text(spec.name, Origin::kTemplate), run_.budget());
      if (value == nullptr) fail("the format names '" + spec.name + "', which is not given");
      return *value;
    }
    const size_t k = used_++;
    if (tuple_ != nullptr ? k >= tuple_->items.size() : k > 0) fail("not enough arguments for the format");
    return tuple_ != nullptr ? tuple_->items[k] : values_;
  }

  void append(const PercentSpec& spec) {
    const Value value = next(spec);
    MarkedText body;
    switch (spec.type) {
      case 's':
        body = run_.str_text(value);
        break;
      case 'r':
        append_repr(body, value, run_.numbers(), run_.budget());
        break;
      case 'd':
      case 'i':
      case 'u':
      case 'x':
      case 'X':
      case 'f':
      case 'F':
        return append_number(spec, value);
      default:
        fail_unsupported(std::string("the format '%") + spec.type + "' is not supported");
    }
    if (spec.precision) {
      const std::vector<size_t> starts = code_points(body.bytes(), run_.budget());
      const auto n = std::min(static_cast<size_t>(*spec.precision), starts.size() - 1);
      body = body.slice(0, starts[n]);
    }
    pad(spec, body, "");
  }

  void append_number(const PercentSpec& spec, const Value& value) {
    if (!value.is_number()) fail(std::string("the format '%") + spec.type + "' needs a number");
    std::string digits;
    bool negative = false;
    if (spec.type == 'f' || spec.type == 'F') {
      const double number = as_double(value);
      negative = std::signbit(number);
      digits = fmt::format("{:.{}f}", std::abs(number), spec.precision.value_or(6));
    } else {
      int64_t buffer;
      const int64_t* whole = value.as_integer(buffer);
      if (whole == nullptr && spec.type != 'd' && spec.type != 'i' && spec.type != 'u') {
        fail("the format '%x' needs an integer");
      }
      const int64_t integer = whole != nullptr ? *whole : truncated(*value.get<double>());
      negative = integer < 0;
      const uint64_t size = negative ? 0 - static_cast<uint64_t>(integer) : static_cast<uint64_t>(integer);
      digits = spec.type == 'x'   ? fmt::format("{:x}", size)
               : spec.type == 'X' ? fmt::format("{:X}", size)
                                  : std::to_string(size);
      while (spec.precision && static_cast<int64_t>(digits.size()) < *spec.precision) digits.insert(0, "0");
    }
    const std::string sign = negative ? "-" : spec.plus ? "+" : spec.blank ? " " : "";
    pad(spec, MarkedText(digits, run_.numbers()), sign);
  }

  // Pads to the width, with blanks, or with zeros after the sign of a number.
  void pad(const PercentSpec& spec, const MarkedText& body, const std::string& sign) {
    const int64_t n = count_code_points(body.bytes(), run_.budget()) + static_cast<int64_t>(sign.size());
    const auto missing = static_cast<size_t>(std::max<int64_t>(spec.width - n, 0));
    run_.budget().make(body.size() + missing);
    const bool zeros = spec.zero && !spec.left && strchr("sr", spec.type) == nullptr;
    if (!spec.left && !zeros) out_.append(std::string(missing, ' '), Origin::kTemplate);
    out_.append(sign, run_.numbers());
    if (zeros) out_.append(std::string(missing, '0'), run_.numbers());
    out_.append(body);
    if (spec.left) out_.append(std::string(missing, ' '), Origin::kTemplate);
  }

  Interpreter& run_;
  const MarkedText& text_;
  std::string_view bytes_;
  const Value& values_;
  const List* tuple_;
  size_t at_ = 0, used_ = 0;
  MarkedText out_;
};

// The value that one {field} of a format names.
Value field_value(Interpreter& run, const std::string& field, const Arguments& arguments, size_t& automatic) {
  size_t end = field.find_first_of(".[");
  std::string name = field.substr(0, end);
  if (end != std::string::npos) fail_unsupported("attributes within a format are not supported");
  std::optional<int64_t> index;
  if (name.empty()) {
    index = static_cast<int64_t>(automatic++);
  } else if (name.find_first_not_of("0123456789") == std::string::npos) {
    index = parse_int(name, 10);
  }
  if (index) {
    if (static_cast<size_t>(*index) >= arguments.positional.size())
      fail("not enough arguments for the format");
    return arguments.positional[static_cast<size_t>(*index)];
  }
  for (const auto& [own, value] : arguments.named) {
    run.budget().step();
    if (own == name) return value;
  }
  fail("the format names '" + name + "', which is not given");
}

}  // namespace

Value percent_format(Interpreter& run, const Text& format, const Value& values) {
  if (format.is_markup) fail_unsupported("formats of text marked as safe are not supported");
  return PercentFormat(run, format, values).apply();
}

Value brace_format(Interpreter& run, const Text& format, const Arguments& arguments) {
  if (format.is_markup) fail_unsupported("formats of text marked as safe are not supported");
  const MarkedText& text = format.text;
  const std::string& bytes = text.bytes();
  MarkedText out;
  size_t automatic = 0;
  for (size_t at = 0; at < bytes.size();) {
    const size_t brace = std::min(bytes.find_first_of("{}", at), bytes.size());
    run.budget().make(brace - at);
    out.append(text, at, brace);
    at = brace;
    if (at == bytes.size()) break;
    if (at + 1 < bytes.size() && bytes[at + 1] == bytes[at]) {
      out.append(text, at, at + 1);
      at += 2;
      continue;
    }
    if (bytes[at] == '}') fail("a single '}' in a format");
    const size_t end = bytes.find('}', at);
    if (end == std::string::npos) fail("a single '{' in a format");
    std::string field = bytes.substr(at + 1, end - at - 1);
    if (field.find_first_of("{:") != std::string::npos) {
      fail_unsupported("widths and types within a format '{:...}' are not supported");
    }
    const bool as_repr = field.ends_with("!r");
    if (as_repr || field.ends_with("!s")) field.resize(field.size() - 2);
    const Value value = field_value(run, field, arguments, automatic);
    as_repr ? append_repr(out, value, run.numbers(), run.budget())
            : append_str(out, value, run.numbers(), run.budget());
    at = end + 1;
  }
  return Value::text(std::move(out));
}

MarkedText html_escaped(Interpreter& run, const MarkedText& text) {
  const std::string& bytes = text.bytes();
  run.budget().make(bytes.size() * 5);
  MarkedText out;
  for (size_t at = 0; at < bytes.size();) {
    const size_t next = std::min(bytes.find_first_of("&<>'\"", at), bytes.size());
    out.append(text, at, next);
    at = next;
    if (at == bytes.size()) break;
    const char c = bytes[at];
    out.append(c == '&'    ? "&amp;"
               : c == '<'  ? "&lt;"
               : c == '>'  ? "&gt;"
               : c == '\'' ? "&#39;"
                           : "&#34;",
               text.origin_at(at));
    ++at;
  }
  return out;
}

}  // namespace sepllm::jinja
