// The filter tojson, as transformers sets it: json.dumps without HTML escapes, and with characters as they
// are.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/template/characters.h"
#include "text/template/compare.h"
#include "text/template/filters.h"
#include "text/template/python_form.h"

namespace sepllm::jinja {
namespace {

std::string json_float(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value < 0 ? "-Infinity" : "Infinity";
  return float_text(value);
}

class JsonWriter {
 public:
  JsonWriter(Interpreter& run, Parameters& parameters) : run_(run) {
    ensure_ascii_ = parameters.boolean_or("ensure_ascii", false, run.budget());
    const Value* indent = parameters.next("indent");
    const Value* separators = parameters.next("separators");
    sort_keys_ = parameters.boolean_or("sort_keys", false, run.budget());
    parameters.done();
    read_indent(indent, parameters);
    read_separators(separators, parameters);
  }

  Value write(const Value& value) {
    append(value);
    return Value::text(std::move(out_));
  }

 private:
  void read_indent(const Value* given, Parameters& parameters) {
    if (given == nullptr || given->is_none()) return;
    int64_t buffer;
    if (const int64_t* width = given->as_integer(buffer)) {
      if (*width > 1000) parameters.refuse("an indent of more than 1000");
      indent_ =
          MarkedText(std::string(static_cast<size_t>(std::max<int64_t>(*width, 0)), ' '), Origin::kTemplate);
    } else if (const Text* text = given->as_text()) {
      indent_ = text->text;
    } else {
      parameters.refuse("'indent' must be an integer or a string");
    }
    item_separator_ = MarkedText(",", Origin::kTemplate);
  }

  void read_separators(const Value* given, Parameters& parameters) {
    if (given == nullptr || given->is_none()) return;
    const std::vector<Value> both = run_.items_of(*given);
    const bool two = both.size() == 2 && both[0].as_text() != nullptr && both[1].as_text() != nullptr;
    if (!two) parameters.refuse("'separators' must be two strings");
    item_separator_ = both[0].as_text()->text;
    key_separator_ = both[1].as_text()->text;
  }

  void put(std::string_view text, Origin origin = Origin::kTemplate) {
    run_.budget().make(text.size());
    out_.append(text, origin);
  }
  void put(const MarkedText& text) {
    run_.budget().make(text.size());
    out_.append(text);
  }

  void append(const Value& value) {
    run_.budget().step();
    if (const Text* text = value.as_text()) {
      append_string(text->text);
    } else if (value.is_none()) {
      put("null");
    } else if (const bool* b = value.get<bool>()) {
      put(*b ? "true" : "false");
    } else if (const int64_t* i = value.get<int64_t>()) {
      put(std::to_string(*i), run_.numbers());
    } else if (const double* d = value.get<double>()) {
      put(json_float(*d), run_.numbers());
    } else if (const List* list = value.as_list();
               list != nullptr && (list->kind == List::Kind::kList || list->kind == List::Kind::kTuple)) {
      append_list(*list);
    } else if (const Dict* dict = value.as_dict()) {
      append_dict(*dict);
    } else {
      if (value.is_undefined()) fail_undefined(value);
      fail("a value of type " + std::string(value.type_name()) + " cannot be written as JSON");
    }
  }

  void new_line() {
    if (!indent_) return;
    put("\n");
    for (int k = 0; k < level_; ++k) put(*indent_);
  }

  void append_list(const List& list) {
    if (list.items.empty()) return put("[]");
    put("[");
    ++level_;
    for (size_t k = 0; k < list.items.size(); ++k) {
      if (k > 0) put(item_separator_);
      new_line();
      append(list.items[k]);
    }
    --level_;
    new_line();
    put("]");
  }

  void append_dict(const Dict& dict) {
    if (dict.items.empty()) return put("{}");
    std::vector<const std::pair<Value, Value>*> items;
    for (const auto& item : dict.items) items.push_back(&item);
    if (sort_keys_) {
      std::stable_sort(items.begin(), items.end(), [&](const auto* a, const auto* b) {
        return order(a->first, b->first, run_.budget()) < 0;
      });
    }
    put("{");
    ++level_;
    for (size_t k = 0; k < items.size(); ++k) {
      if (k > 0) put(item_separator_);
      new_line();
      append_key(items[k]->first);
      put(key_separator_);
      append(items[k]->second);
    }
    --level_;
    new_line();
    put("}");
  }

  void append_key(const Value& key) {
    const bool is_simple = key.as_text() != nullptr || key.is_none() || key.is_number();
    if (!is_simple) fail("a key of type " + std::string(key.type_name()) + " cannot be written as JSON");
    if (key.as_text() != nullptr) return append(key);
    put("\"");
    append(key);
    put("\"");
  }

  void append_string(const MarkedText& text) {
    const std::string& bytes = text.bytes();
    run_.budget().make(bytes.size() + 2);
    run_.budget().step(static_cast<int64_t>(bytes.size() / 16));
    out_.append("\"", Origin::kTemplate);
    size_t plain = 0;  // beginning of the part that is written unchanged
    for (size_t at = 0, length = 1; at < bytes.size(); at += length) {
      const auto byte = static_cast<unsigned char>(bytes[at]);
      length = 1;
      if (byte >= 0x20 && byte != '"' && byte != '\\' && (byte < 0x80 || !ensure_ascii_)) continue;
      out_.append(text, plain, at);
      const char32_t c = code_point_at(bytes, at, length);
      put(escape(c), text.origin_at(at));
      plain = at + length;
    }
    out_.append(text, plain, bytes.size());
    out_.append("\"", Origin::kTemplate);
  }

  static std::string escape(char32_t c) {
    switch (c) {
      case '"':
        return "\\\"";
      case '\\':
        return "\\\\";
      case '\n':
        return "\\n";
      case '\r':
        return "\\r";
      case '\t':
        return "\\t";
      case '\f':
        return "\\f";
      case '\b':
        return "\\b";
      default:
        break;
    }
    const auto code = static_cast<uint32_t>(c);
    if (code <= 0xFFFF) return fmt::format("\\u{:04x}", code);
    return fmt::format("\\u{:04x}\\u{:04x}", 0xD800 + ((code - 0x10000) >> 10),
                       0xDC00 + ((code - 0x10000) & 0x3FF));
  }

  Interpreter& run_;
  bool ensure_ascii_ = false, sort_keys_ = false;
  std::optional<MarkedText> indent_;
  MarkedText item_separator_{", ", Origin::kTemplate}, key_separator_{": ", Origin::kTemplate};
  int level_ = 0;
  MarkedText out_;
};

}  // namespace

Value to_json(Interpreter& run, const Value& subject, Parameters& parameters) {
  return JsonWriter(run, parameters).write(subject);
}

}  // namespace sepllm::jinja
