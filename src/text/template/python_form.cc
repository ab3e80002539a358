#include "text/template/python_form.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "text/template/characters.h"

namespace sepllm::jinja {
namespace {

void append(MarkedText& out, std::string_view text, Origin origin, Budget& budget) {
  budget.make(text.size());
  out.append(text, origin);
}

std::string escaped(char32_t c) {
  if (c == '\n') return "\\n";
  if (c == '\r') return "\\r";
  if (c == '\t') return "\\t";
  const auto code = static_cast<uint32_t>(c);
  return c <= 0xFF     ? fmt::format("\\x{:02x}", code)
         : c <= 0xFFFF ? fmt::format("\\u{:04x}", code)
                       : fmt::format("\\U{:08x}", code);
}

void append_quoted(MarkedText& out, const MarkedText& text, Budget& budget) {
  const std::string& bytes = text.bytes();
  budget.make(bytes.size() * 2 + 2);
  budget.step(static_cast<int64_t>(bytes.size() / 8));
  const bool has_single = bytes.find('\'') != std::string::npos;
  const char quote = has_single && bytes.find('"') == std::string::npos ? '"' : '\'';
  out.append({&quote, 1}, Origin::kTemplate);
  for (size_t at = 0, length = 0; at < bytes.size(); at += length) {
    const char32_t c = code_point_at(bytes, at, length);
    const Origin origin = text.origin_at(at);
    if (c == static_cast<unsigned char>(quote) || c == '\\') {
      out.append("\\", origin);
      out.append(std::string_view(bytes).substr(at, 1), origin);
    } else if (is_printable(c)) {
      out.append(std::string_view(bytes).substr(at, length), origin);
    } else {
      out.append(escaped(c), origin);
    }
  }
  out.append({&quote, 1}, Origin::kTemplate);
}

void append_list(MarkedText& out, const List& list, Origin numbers, Budget& budget) {
  if (list.kind == List::Kind::kRange) fail_unsupported("printing a range() is not supported");
  const bool is_tuple = list.kind == List::Kind::kTuple;
  const bool is_view = list.kind == List::Kind::kView;
  if (is_view) append(out, std::string(list.view_name) + "(", Origin::kTemplate, budget);
  append(out, is_tuple ? "(" : "[", Origin::kTemplate, budget);
  for (size_t k = 0; k < list.items.size(); ++k) {
    if (k > 0) append(out, ", ", Origin::kTemplate, budget);
    append_repr(out, list.items[k], numbers, budget);
  }
  if (is_tuple && list.items.size() == 1) append(out, ",", Origin::kTemplate, budget);
  append(out, is_tuple ? ")" : "]", Origin::kTemplate, budget);
  if (is_view) append(out, ")", Origin::kTemplate, budget);
}

void append_dict(MarkedText& out, const Dict& dict, Origin numbers, Budget& budget) {
  append(out, "{", Origin::kTemplate, budget);
  bool first = true;
  for (const auto& [key, value] : dict.items) {
    if (!first) append(out, ", ", Origin::kTemplate, budget);
    first = false;
    append_repr(out, key, numbers, budget);
    append(out, ": ", Origin::kTemplate, budget);
    append_repr(out, value, numbers, budget);
  }
  append(out, "}", Origin::kTemplate, budget);
}

}  // namespace

std::string float_text(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  char buffer[64];
  // The shortest digits that give the value again. Python uses the forms 1e16 and 1e-05 only from there on.
  const double size = std::abs(value);
  const bool plain = size == 0.0 || (size >= 1e-4 && size < 1e16);
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value,
                                 plain ? std::chars_format::fixed : std::chars_format::scientific);
  std::string text(buffer, end.ptr);
  if (plain && text.find('.') == std::string::npos) text += ".0";
  return text;
}

void append_str(MarkedText& out, const Value& value, Origin numbers, Budget& budget) {
  if (const Text* text = value.as_text()) {
    budget.make(text->text.size());
    out.append(text->text);
  } else if (!value.is_undefined()) {
    append_repr(out, value, numbers, budget);
  }
}

void append_repr(MarkedText& out, const Value& value, Origin numbers, Budget& budget) {
  budget.step();
  if (const Text* text = value.as_text()) {
    if (text->is_markup) fail_unsupported("printing a list of texts marked as safe is not supported");
    append_quoted(out, text->text, budget);
  } else if (value.is_none()) {
    append(out, "None", Origin::kTemplate, budget);
  } else if (const bool* b = value.get<bool>()) {
    append(out, *b ? "True" : "False", Origin::kTemplate, budget);
  } else if (const int64_t* i = value.get<int64_t>()) {
    append(out, std::to_string(*i), numbers, budget);
  } else if (const double* d = value.get<double>()) {
    append(out, float_text(*d), numbers, budget);
  } else if (const List* list = value.as_list()) {
    append_list(out, *list, numbers, budget);
  } else if (const Dict* dict = value.as_dict()) {
    append_dict(out, *dict, numbers, budget);
  } else if (value.is_undefined()) {
    append(out, "Undefined", Origin::kTemplate, budget);
  } else {
    fail_unsupported("printing a " + std::string(value.type_name()) + " is not supported");
  }
}

}  // namespace sepllm::jinja
