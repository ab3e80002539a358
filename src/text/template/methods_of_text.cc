// The methods of Python's str that templates call.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/template/characters.h"
#include "text/template/compare.h"
#include "text/template/interpreter.h"
#include "text/template/text_operations.h"

namespace sepllm::jinja {
namespace {

using Method = Value (*)(Interpreter&, const MarkedText&, Parameters&);

Value flag(bool value) { return Value::boolean(value); }

template <LetterCase letter_case>
Value change_case(Interpreter& run, const MarkedText& self, Parameters& parameters) {
  parameters.done();
  return Value::text(with_case(self, letter_case, run.budget()));
}

template <Sides sides>
Value strip_method(Interpreter& run, const MarkedText& self, Parameters& parameters) {
  const Text* characters = parameters.text("chars");
  parameters.done();
  return Value::text(stripped(run, self, characters, sides));
}

// startswith and endswith, with a string or a tuple of strings.
template <bool at_end>
Value affix(Interpreter& run, const MarkedText& self, Parameters& parameters) {
  const Value& wanted = parameters.required("prefix");
  if (parameters.next("start") != nullptr)
    fail_unsupported("startswith() and endswith() with a start are not supported");
  parameters.done();
  const auto matches = [&](const Value& value) {
    const Text* part = value.as_text();
    if (part == nullptr) fail("startswith() and endswith() take a string or a tuple of strings");
    run.budget().read(part->text.size());
    const std::string& bytes = part->text.bytes();
    return at_end ? self.bytes().ends_with(bytes) : self.bytes().starts_with(bytes);
  };
  const List* several = wanted.as_list();
  if (several == nullptr) return flag(matches(wanted));
  if (several->kind != List::Kind::kTuple)
    fail("startswith() and endswith() take a string or a tuple of strings");
  return flag(std::any_of(several->items.begin(), several->items.end(), matches));
}

template <bool at_end>
Value remove_affix(Interpreter& run, const MarkedText& self, Parameters& parameters) {
  const std::string& part = parameters.required_text("affix").text.bytes();
  parameters.done();
  run.budget().make(self.size());
  const bool found = at_end ? self.bytes().ends_with(part) : self.bytes().starts_with(part);
  if (!found) return Value::text(self);
  return Value::text(at_end ? self.slice(0, self.size() - part.size())
                            : self.slice(part.size(), self.size()));
}

Value replace_method(Interpreter& run, const MarkedText& self, Parameters& parameters) {
  const Text& from = parameters.required_text("old");
  const Text& to = parameters.required_text("new");
  const int64_t most = parameters.integer_or("count", -1);
  parameters.done();
  return Value::text(replaced(run, self, from.text, to.text, most));
}

template <bool from_right>
Value split_method(Interpreter& run, const MarkedText& self, Parameters& parameters) {
  const Text* separator = parameters.text("sep");
  const int64_t most = parameters.integer_or("maxsplit", -1);
  parameters.done();
  return Value::list(split(run, self, separator, most, from_right), run.budget());
}

Value splitlines_method(Interpreter& run, const MarkedText& self, Parameters& parameters) {
  const bool keep = parameters.boolean_or("keepends", false, run.budget());
  parameters.done();
  return Value::list(split_lines(run, self, keep), run.budget());
}

// (before, separator, after) at the first or last separator.
template <bool last>
Value partition_method(Interpreter& run, const MarkedText& self, Parameters& parameters) {
  const MarkedText& separator = parameters.required_text("sep").text;
  parameters.done();
  if (separator.empty()) fail("empty separator");
  run.budget().make(self.size());
  const size_t at = last ? find_last_text(self.bytes(), separator.bytes(), run.budget())
                         : find_text(self.bytes(), separator.bytes(), 0, run.budget());
  std::vector<Value> parts(3, Value::text(MarkedText()));
  if (at == std::string::npos) {
    parts[last ? 2 : 0] = Value::text(self);
  } else {
    parts[0] = Value::text(self.slice(0, at));
    parts[1] = Value::text(self.slice(at, at + separator.size()));
    parts[2] = Value::text(self.slice(at + separator.size(), self.size()));
  }
  return Value::list(std::move(parts), run.budget(), List::Kind::kTuple);
}

// find, rfind, index, rindex; positions count characters.
template <bool last, bool must_be>
Value find_method(Interpreter& run, const MarkedText& self, Parameters& parameters) {
  const std::string& part = parameters.required_text("sub").text.bytes();
  const std::optional<int64_t> start = parameters.integer("start"), end = parameters.integer("end");
  parameters.done();
  std::string_view bytes = self.bytes();
  size_t skipped = 0;
  if (start || end) {
    const std::vector<size_t> starts = code_points(bytes, run.budget());
    const auto n = static_cast<int64_t>(starts.size()) - 1;
    const auto clamp = [&](int64_t k) { return std::clamp<int64_t>(k < 0 ? k + n : k, 0, n); };
    const int64_t from = clamp(start.value_or(0)), to = clamp(end.value_or(n));
    if (start.value_or(0) > n || from > to)
      return must_be ? (fail("substring not found"), Value()) : Value::integer(-1);
    skipped = starts[static_cast<size_t>(from)];
    bytes = bytes.substr(skipped, starts[static_cast<size_t>(to)] - skipped);
  }
  const size_t at =
      last ? find_last_text(bytes, part, run.budget()) : find_text(bytes, part, 0, run.budget());
  if (at == std::string::npos) {
    if (must_be) fail("substring not found");
    return Value::integer(-1);
  }
  const std::string_view before = std::string_view(self.bytes()).substr(0, skipped + at);
  return Value::integer(count_code_points(before, run.budget()));
}

Value count_method(Interpreter& run, const MarkedText& self, Parameters& parameters) {
  const std::string& part = parameters.required_text("sub").text.bytes();
  if (parameters.next("start") != nullptr) fail_unsupported("count() with a start is not supported");
  parameters.done();
  if (part.empty()) return Value::integer(count_code_points(self.bytes(), run.budget()) + 1);
  int64_t n = 0;
  for (size_t at = 0;; ++n) {
    at = next_match(run, self.bytes(), part, at);
    if (at == std::string::npos) return Value::integer(n);
    at += part.size();
  }
}

Value join_method(Interpreter& run, const MarkedText& self, Parameters& parameters) {
  const std::vector<Value> items = run.items_of(parameters.required("iterable"));
  parameters.done();
  MarkedText out;
  for (size_t k = 0; k < items.size(); ++k) {
    const Text* text = items[k].as_text();
    if (text == nullptr) {
      fail("join() takes strings; item " + std::to_string(k) + " is of type " + items[k].type_name());
    }
    run.budget().make(self.size() + text->text.size());
    if (k > 0) out.append(self);
    out.append(text->text);
  }
  return Value::text(std::move(out));
}

enum class Side { kLeft, kRight, kBoth };

// ljust, rjust, center: pads with blanks (or another character) to a width.
template <Side side>
Value justify(Interpreter& run, const MarkedText& self, Parameters& parameters) {
  const std::optional<int64_t> width = parameters.integer("width");
  const Text* fill = parameters.text("fillchar");
  parameters.done();
  if (!width) parameters.refuse("parameter 'width' is missing");
  const MarkedText blank(" ", Origin::kTemplate);
  return Value::text(justified(run, self, *width, fill != nullptr ? fill->text : blank, side != Side::kLeft,
                               side != Side::kRight));
}

Value zfill_method(Interpreter& run, const MarkedText& self, Parameters& parameters) {
  const std::optional<int64_t> width = parameters.integer("width");
  parameters.done();
  if (!width) parameters.refuse("parameter 'width' is missing");
  const bool has_sign = self.bytes().starts_with('-') || self.bytes().starts_with('+');
  const size_t sign = has_sign ? 1 : 0;
  MarkedText out = self.slice(0, sign);
  out.append(justified(run, self.slice(sign, self.size()), *width - static_cast<int64_t>(sign),
                       MarkedText("0", Origin::kTemplate), true, false));
  return Value::text(std::move(out));
}

// Whether the text is not empty and all its characters are of one kind.
template <bool (*is_kind)(char32_t)>
Value all_are(Interpreter& run, const MarkedText& self, Parameters& parameters) {
  parameters.done();
  run.budget().step(static_cast<int64_t>(self.size() / 16));
  size_t length = 0;
  for (size_t at = 0; at < self.size(); at += length) {
    if (!is_kind(code_point_at(self.bytes(), at, length))) return flag(false);
  }
  return flag(!self.empty());
}

bool is_alnum(char32_t c) { return is_alpha(c) || is_numeric(c); }

Value isascii_method(Interpreter& run, const MarkedText& self, Parameters& parameters) {
  parameters.done();
  run.budget().read(self.size());
  return flag(std::all_of(self.bytes().begin(), self.bytes().end(), [](char c) { return (c & 0x80) == 0; }));
}

const std::map<std::string, Method>& methods() {
  static const std::map<std::string, Method> kMethods = {
      {"capitalize", change_case<LetterCase::kCapitalized>},
      {"center", justify<Side::kBoth>},
      {"count", count_method},
      {"endswith", affix<true>},
      {"find", find_method<false, false>},
      {"index", find_method<false, true>},
      {"isalnum", all_are<is_alnum>},
      {"isalpha", all_are<is_alpha>},
      {"isascii", isascii_method},
      {"isdecimal", all_are<is_decimal>},
      {"isdigit", all_are<is_digit>},
      {"isspace", all_are<is_space>},
      {"join", join_method},
      {"ljust", justify<Side::kLeft>},
      {"lower", change_case<LetterCase::kLower>},
      {"lstrip", strip_method<Sides::kLeft>},
      {"partition", partition_method<false>},
      {"removeprefix", remove_affix<false>},
      {"removesuffix", remove_affix<true>},
      {"replace", replace_method},
      {"rfind", find_method<true, false>},
      {"rindex", find_method<true, true>},
      {"rjust", justify<Side::kRight>},
      {"rpartition", partition_method<true>},
      {"rsplit", split_method<true>},
      {"rstrip", strip_method<Sides::kRight>},
      {"split", split_method<false>},
      {"splitlines", splitlines_method},
      {"startswith", affix<false>},
      {"strip", strip_method<Sides::kBoth>},
      {"title", change_case<LetterCase::kTitle>},
      {"upper", change_case<LetterCase::kUpper>},
      {"zfill", zfill_method},
  };
  return kMethods;
}

// Python has these methods too: the message says that they are missing here, not in Python.
constexpr std::array<const char*, 13> kLeftOut = {
    "casefold",    "encode",  "expandtabs", "format_map", "isidentifier", "islower",  "isnumeric",
    "isprintable", "istitle", "isupper",    "maketrans",  "swapcase",     "translate"};

}  // namespace

bool is_text_method(const std::string& name) {
  return name == "format" || methods().contains(name) ||
         std::find(kLeftOut.begin(), kLeftOut.end(), name) != kLeftOut.end();
}

Value call_text_method(Interpreter& run, const Text& self, const std::string& name,
                       const Arguments& arguments) {
  if (name == "format") return brace_format(run, self, arguments);
  const auto method = methods().find(name);
  if (method == methods().end()) fail_unsupported("the method '" + name + "' of strings is not supported");
  if (self.is_markup) fail_unsupported("methods of text marked as safe are not supported");
  Parameters parameters("method '" + name + "'", arguments);
  return method->second(run, self.text, parameters);
}

}  // namespace sepllm::jinja
