// Attributes, items, slices, and iteration over values, as far as Jinja's sandbox allows them.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "text/template/characters.h"
#include "text/template/compare.h"
#include "text/template/interpreter.h"
#include "text/template/loop.h"
#include "text/template/python_form.h"

namespace sepllm::jinja {
namespace {

Value missing(const Value& object, const std::string& what) {
  return Value::undefined("'" + std::string(object.type_name()) + "' has no " + what);
}

// A method, or an attribute of a namespace or loop; an undefined value if there is none.
Value own_attribute(const Value& object, const std::string& name, Budget& budget) {
  if (const Namespace* space = object.as_namespace()) {
    budget.step(static_cast<int64_t>(space->attributes.size() / 8));
    for (const auto& [own, value] : space->attributes) {
      if (own == name) return value;
    }
  }
  if (Loop* loop = object.as_loop()) {
    if (std::optional<Value> value = loop->attribute(name)) return *value;
  }
  if (is_changing_method(object, name)) {
    return Value::undefined("a template may not change a " + std::string(object.type_name()) + " (" + name +
                            ")");
  }
  if (has_method(object, name)) {
    budget.make(sizeof(Callable));
    return Value(
        Value::Storage(std::make_shared<const Callable>(Callable{Callable::Kind::kMethod, name, object})));
  }
  return missing(object, "attribute '" + name + "'");
}

// The place in a sequence that an index means; a negative index counts from the end.
std::optional<size_t> place(int64_t index, size_t size) {
  const auto n = static_cast<int64_t>(size);
  if (index < 0) index += n;
  return index >= 0 && index < n ? std::optional(static_cast<size_t>(index)) : std::nullopt;
}

Value character(const MarkedText& text, int64_t index, const Value& object, Budget& budget) {
  const std::vector<size_t> starts = code_points(text.bytes(), budget);
  const auto at = place(index, starts.size() - 1);
  if (!at) return missing(object, "element " + std::to_string(index));
  return Value::text(text.slice(starts[*at], starts[*at + 1]));
}

struct Range {
  int64_t start, stop, step;
};

// Python's slice.indices().
Range slice_range(const Value& start, const Value& stop, const Value& step, int64_t n) {
  const auto bound = [](const Value& value, const char* name) -> std::optional<int64_t> {
    if (value.is_none()) return std::nullopt;
    int64_t buffer;
    if (const int64_t* integer = value.as_integer(buffer)) return *integer;
    if (value.is_undefined()) fail_undefined(value);
    fail(std::string("the ") + name + " of a slice must be an integer or none, not " + value.type_name());
  };
  Range out{0, 0, bound(step, "step").value_or(1)};
  if (out.step == 0) fail("the step of a slice cannot be zero");
  const bool up = out.step > 0;
  const int64_t least = up ? 0 : -1, most = up ? n : n - 1;
  const auto clamp = [&](std::optional<int64_t> index, int64_t fallback) {
    if (!index) return fallback;
    if (*index < 0) return std::max(*index < -n ? least : *index + n, least);
    return std::min(*index, most);
  };
  out.start = clamp(bound(start, "start"), up ? 0 : n - 1);
  out.stop = clamp(bound(stop, "stop"), up ? n : -1);
  return out;
}

template <typename Fn>
void for_range(const Range& range, const Fn& fn) {
  // However large the steps are, both ends are within the sequence.
  const bool up = range.step > 0;
  for (int64_t k = range.start; up ? k < range.stop : k > range.stop;) {
    fn(static_cast<size_t>(k));
    if (__builtin_add_overflow(k, range.step, &k)) break;
  }
}

Value sliced_text(const MarkedText& text, const Value& start, const Value& stop, const Value& step,
                  Budget& budget) {
  const std::vector<size_t> starts = code_points(text.bytes(), budget);
  const Range range = slice_range(start, stop, step, static_cast<int64_t>(starts.size()) - 1);
  budget.make(text.size());
  MarkedText out;
  if (range.step == 1) {
    const auto end = static_cast<size_t>(std::max(range.start, range.stop));
    out = text.slice(starts[static_cast<size_t>(range.start)], starts[end]);
  } else {
    for_range(range, [&](size_t k) { out.append(text, starts[k], starts[k + 1]); });
  }
  return Value::text(std::move(out));
}

}  // namespace

Value Interpreter::attribute(const Value& object, const std::string& name) {
  if (object.is_undefined()) fail_undefined(object);
  const Value own = name.starts_with("__") ? missing(object, "attribute '" + name + "'")
                                           : own_attribute(object, name, budget_);
  if (!own.is_undefined() || is_changing_method(object, name)) return own;
  const Dict* dict = object.as_dict();
  if (dict == nullptr) return own;
  const Value* value = find_key(*dict, Value::text(name, Origin::kTemplate), budget_);
  return value != nullptr ? *value : own;
}

Value Interpreter::item(const Value& object, const Value& key) {
  if (object.is_undefined()) fail_undefined(object);
  if (const Dict* dict = object.as_dict()) {
    if (const Value* value = find_key(*dict, key, budget_)) return *value;
  }
  int64_t buffer;
  if (const int64_t* index = key.as_integer(buffer)) {
    const List* list = object.as_list();
    if (list != nullptr && list->kind != List::Kind::kView) {
      if (const auto at = place(*index, list->items.size())) return list->items[*at];
    }
    if (const Text* text = object.as_text()) return character(text->text, *index, object, budget_);
    return missing(object, "element " + std::to_string(*index));
  }
  const Text* name = key.as_text();
  if (name == nullptr || name->text.bytes().starts_with("__")) return missing(object, "such element");
  return own_attribute(object, name->text.bytes(), budget_);
}

Value Interpreter::slice(const Value& object, const Value& start, const Value& stop, const Value& step) {
  if (object.is_undefined()) fail_undefined(object);
  if (const Text* text = object.as_text()) return sliced_text(text->text, start, stop, step, budget_);
  const List* list = object.as_list();
  if (list == nullptr || list->kind == List::Kind::kView)
    fail("a value of type " + std::string(object.type_name()) + " cannot be sliced");
  const Range range = slice_range(start, stop, step, static_cast<int64_t>(list->items.size()));
  std::vector<Value> items;
  for_range(range, [&](size_t k) { items.push_back(list->items[k]); });
  return Value::list(std::move(items), budget_, list->kind);
}

Value Interpreter::char_list(const MarkedText& text) {
  const std::vector<size_t> starts = code_points(text.bytes(), budget_);
  budget_.make((starts.size() - 1) * (sizeof(Value) + sizeof(Text) + 32));
  std::vector<Value> items;
  items.reserve(starts.size() - 1);
  for (size_t k = 0; k + 1 < starts.size(); ++k) {
    items.push_back(Value::text(text.slice(starts[k], starts[k + 1])));
  }
  return Value::list(std::move(items), budget_);
}

std::vector<Value> Interpreter::items_of(const Value& value) {
  if (value.is_undefined()) return {};
  std::vector<Value> out;
  if (const List* list = value.as_list()) {
    out = list->items;
  } else if (const Dict* dict = value.as_dict()) {
    for (const auto& [key, unused] : dict->items) out.push_back(key);
  } else if (const Text* text = value.as_text()) {
    return char_list(text->text).as_list()->items;
  } else if (Iterator* iterator = value.as_iterator()) {
    const size_t from = std::exchange(iterator->next, iterator->items.size());
    out.assign(iterator->items.begin() + static_cast<std::ptrdiff_t>(from), iterator->items.end());
  } else if (value.as_loop() != nullptr) {
    fail_unsupported("walking over 'loop' itself is not supported");
  } else {
    fail("a value of type " + std::string(value.type_name()) + " cannot be walked over");
  }
  budget_.make(out.size() * sizeof(Value));
  return out;
}

int64_t Interpreter::length_of(const Value& value) {
  if (value.is_undefined()) return 0;
  if (const Text* text = value.as_text()) return count_code_points(text->text.bytes(), budget_);
  if (const List* list = value.as_list()) return static_cast<int64_t>(list->items.size());
  if (const Dict* dict = value.as_dict()) return static_cast<int64_t>(dict->items.size());
  if (Loop* loop = value.as_loop()) return *loop->attribute("length")->get<int64_t>();
  fail("a value of type " + std::string(value.type_name()) + " has no length");
}

MarkedText Interpreter::str_text(const Value& value) {
  MarkedText out;
  append_str(out, value, numbers_, budget_);
  return out;
}

Value Interpreter::str(const Value& value) { return value.as_text() ? value : Value::text(str_text(value)); }

}  // namespace sepllm::jinja
