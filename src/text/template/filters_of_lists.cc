// Filters over items: lengths, ends, order.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "text/template/compare.h"
#include "text/template/filters.h"
#include "text/template/python_form.h"

namespace sepllm::jinja {
namespace {

Value length(Interpreter& run, const Value& subject, Parameters& parameters) {
  parameters.done();
  return Value::integer(run.length_of(subject));
}

Value fallback(Interpreter& run, const Value& subject, Parameters& parameters) {
  const Value* given = parameters.next("default_value");
  const bool for_false = parameters.boolean_or("boolean", false, run.budget());
  parameters.done();
  const bool missing = subject.is_undefined() || (for_false && !is_true(subject, run.budget()));
  if (!missing) return subject;
  return given != nullptr ? *given : Value::text(MarkedText());
}

Value first(Interpreter& run, const Value& subject, Parameters& parameters) {
  parameters.done();
  if (Iterator* iterator = subject.as_iterator()) {  // takes only one item
    if (iterator->next < iterator->items.size()) return iterator->items[iterator->next++];
    return Value::undefined("no first item: the sequence is empty");
  }
  const std::vector<Value> items = run.items_of(subject);
  return items.empty() ? Value::undefined("no first item: the sequence is empty") : items.front();
}

Value last(Interpreter& run, const Value& subject, Parameters& parameters) {
  parameters.done();
  if (subject.as_iterator() != nullptr || subject.is_undefined())
    fail("filter 'last' needs a list or string");
  const std::vector<Value> items = run.items_of(subject);
  return items.empty() ? Value::undefined("no last item: the sequence is empty") : items.back();
}

Value list(Interpreter& run, const Value& subject, Parameters& parameters) {
  parameters.done();
  return Value::list(run.items_of(subject), run.budget());
}

Value items(Interpreter& run, const Value& subject, Parameters& parameters) {
  parameters.done();
  std::vector<Value> out;
  const Dict* dict = subject.as_dict();
  if (dict == nullptr && !subject.is_undefined()) fail("filter 'items' takes a dictionary");
  for (size_t k = 0; dict != nullptr && k < dict->items.size(); ++k) {
    const auto& [key, value] = dict->items[k];
    out.push_back(Value::list({key, value}, run.budget(), List::Kind::kTuple));
  }
  return Value::iterator(std::move(out), run.budget());
}

Value reverse(Interpreter& run, const Value& subject, Parameters& parameters) {
  parameters.done();
  if (subject.as_text() != nullptr) return run.slice(subject, Value(), Value(), Value::integer(-1));
  if (subject.is_undefined()) fail_undefined(subject);
  std::vector<Value> out = run.items_of(subject);
  std::reverse(out.begin(), out.end());
  if (subject.as_iterator() != nullptr) return Value::list(std::move(out), run.budget());
  return Value::iterator(std::move(out), run.budget());
}

// Sorts items by their keys; stable in both directions.
std::vector<Value> sorted(Interpreter& run, const std::vector<Value>& items, const std::vector<Value>& keys,
                          bool descending) {
  std::vector<size_t> places(items.size());
  for (size_t k = 0; k < places.size(); ++k) places[k] = k;
  std::stable_sort(places.begin(), places.end(), [&](size_t a, size_t b) {
    return descending ? order(keys[b], keys[a], run.budget()) < 0 : order(keys[a], keys[b], run.budget()) < 0;
  });
  std::vector<Value> out;
  for (const size_t k : places) out.push_back(items[k]);
  return out;
}

// "a,b": the keys of an item by several attributes.
Value sort_key(Interpreter& run, const Value& item, const Value* attribute, bool by_case) {
  std::vector<Value> parts;
  const Text* names = attribute == nullptr ? nullptr : attribute->as_text();
  const auto add = [&](const Value* path) {
    const Value value = value_at(run, item, path, nullptr);
    parts.push_back(by_case ? value : without_case(run, value));
  };
  if (names == nullptr) {
    add(attribute);
  } else {
    const std::string& all = names->text.bytes();
    for (size_t begin = 0; begin <= all.size();) {
      const size_t end = std::min(all.find(',', begin), all.size());
      const Value path = Value::text(all.substr(begin, end - begin), Origin::kTemplate);
      add(&path);
      begin = end + 1;
    }
  }
  return Value::list(std::move(parts), run.budget());
}

Value sort(Interpreter& run, const Value& subject, Parameters& parameters) {
  const bool descending = parameters.boolean_or("reverse", false, run.budget());
  const bool by_case = parameters.boolean_or("case_sensitive", false, run.budget());
  const Value* attribute = parameters.next("attribute");
  parameters.done();
  const std::vector<Value> items = run.items_of(subject);
  std::vector<Value> keys;
  for (const Value& item : items) keys.push_back(sort_key(run, item, attribute, by_case));
  return Value::list(sorted(run, items, keys, descending), run.budget());
}

Value dictsort(Interpreter& run, const Value& subject, Parameters& parameters) {
  const bool by_case = parameters.boolean_or("case_sensitive", false, run.budget());
  const Text* by = parameters.text("by");
  const bool descending = parameters.boolean_or("reverse", false, run.budget());
  parameters.done();
  const Dict* dict = subject.as_dict();
  if (dict == nullptr) parameters.refuse("takes a dictionary");
  const bool by_value = by != nullptr && by->text.bytes() == "value";
  if (by != nullptr && !by_value && by->text.bytes() != "key") parameters.refuse("sorts by 'key' or 'value'");
  std::vector<Value> pairs, keys;
  for (const auto& [key, value] : dict->items) {
    pairs.push_back(Value::list({key, value}, run.budget(), List::Kind::kTuple));
    const Value& sorted_by = by_value ? value : key;
    keys.push_back(by_case ? sorted_by : without_case(run, sorted_by));
  }
  return Value::list(sorted(run, pairs, keys, descending), run.budget());
}

Value unique(Interpreter& run, const Value& subject, Parameters& parameters) {
  const bool by_case = parameters.boolean_or("case_sensitive", false, run.budget());
  const Value* attribute = parameters.next("attribute");
  parameters.done();
  std::vector<Value> out;
  std::vector<std::pair<Value, Value>> seen;
  for (const Value& item : run.items_of(subject)) {
    Value key = value_at(run, item, attribute, nullptr);
    if (!by_case) key = without_case(run, key);
    const size_t before = seen.size();
    set_key(seen, std::move(key), Value(), run.budget());
    if (seen.size() > before) out.push_back(item);
  }
  return Value::iterator(std::move(out), run.budget());
}

template <bool largest>
Value extreme(Interpreter& run, const Value& subject, Parameters& parameters) {
  const bool by_case = parameters.boolean_or("case_sensitive", false, run.budget());
  const Value* attribute = parameters.next("attribute");
  parameters.done();
  const std::vector<Value> items = run.items_of(subject);
  if (items.empty()) return Value::undefined("no aggregated item: the sequence is empty");
  const auto key = [&](const Value& item) {
    const Value value = value_at(run, item, attribute, nullptr);
    return by_case ? value : without_case(run, value);
  };
  size_t best = 0;
  Value best_key = key(items[0]);
  for (size_t k = 1; k < items.size(); ++k) {
    Value other = key(items[k]);
    const int sign = order(other, best_key, run.budget());
    if (largest ? sign <= 0 : sign >= 0) continue;
    best = k;
    best_key = std::move(other);
  }
  return items[best];
}

// Lists of `size` items each; the last one is filled up if a filler is given.
Value batch(Interpreter& run, const Value& subject, Parameters& parameters) {
  const std::optional<int64_t> size = parameters.integer("linecount");
  const Value* fill = parameters.next("fill_with");
  parameters.done();
  if (!size || *size < 1) parameters.refuse("needs a number of items above zero");
  std::vector<Value> out, part;
  const auto flush = [&] {
    if (!part.empty()) out.push_back(Value::list(std::exchange(part, {}), run.budget()));
  };
  for (const Value& item : run.items_of(subject)) {
    if (static_cast<int64_t>(part.size()) == *size) flush();
    part.push_back(item);
  }
  if (fill != nullptr && !fill->is_none() && !part.empty()) {
    run.budget().make(static_cast<size_t>(std::min(*size, run.budget().limits().bytes)) * sizeof(Value));
    part.resize(static_cast<size_t>(*size), *fill);
  }
  flush();
  return Value::iterator(std::move(out), run.budget());
}

// The given number of lists, as equal in length as possible.
Value slices(Interpreter& run, const Value& subject, Parameters& parameters) {
  const std::optional<int64_t> given = parameters.integer("slices");
  const Value* fill = parameters.next("fill_with");
  parameters.done();
  if (!given || *given < 1 || *given > run.budget().limits().steps)
    parameters.refuse("needs a number of lists");
  const auto n = static_cast<size_t>(*given);
  run.budget().step(*given);
  const std::vector<Value> items = run.items_of(subject);
  std::vector<Value> out;
  for (size_t k = 0, at = 0; k < n; ++k) {
    const size_t size = items.size() / n + (k < items.size() % n ? 1 : 0);
    std::vector<Value> part(items.begin() + static_cast<std::ptrdiff_t>(at),
                            items.begin() + static_cast<std::ptrdiff_t>(at + size));
    at += size;
    if (fill != nullptr && !fill->is_none() && k >= items.size() % n) part.push_back(*fill);
    out.push_back(Value::list(std::move(part), run.budget()));
  }
  return Value::iterator(std::move(out), run.budget());
}

Value attribute_of(Interpreter& run, const Value& subject, Parameters& parameters) {
  const Text& name = parameters.required_text("name");
  parameters.done();
  if (subject.as_dict() == nullptr) return run.attribute(subject, name.text.bytes());
  if (has_method(subject, name.text.bytes())) return run.attribute(subject, name.text.bytes());
  return Value::undefined("'dict' has no attribute '" + name.text.bytes() + "'");
}

}  // namespace

const FilterTable& list_filters() {
  static const FilterTable kFilters = {{"attr", attribute_of},  {"batch", batch},      {"count", length},
                                       {"d", fallback},         {"default", fallback}, {"dictsort", dictsort},
                                       {"first", first},        {"items", items},      {"last", last},
                                       {"length", length},      {"list", list},        {"max", extreme<true>},
                                       {"min", extreme<false>}, {"reverse", reverse},  {"slice", slices},
                                       {"sort", sort},          {"unique", unique}};
  return kFilters;
}

}  // namespace sepllm::jinja
