#include "text/template/value.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "text/template/callable.h"

namespace sepllm::jinja {
namespace {

int checked_depth(int inner, const Budget& budget) {
  if (inner >= budget.limits().value_depth) {
    throw Failure{ErrorCode::kOutOfRange, "the template nests lists or dictionaries more than " +
                                              std::to_string(budget.limits().value_depth) + " deep"};
  }
  return inner + 1;
}

int deepest(const std::vector<Value>& items) {
  int depth = 0;
  for (const Value& item : items) depth = std::max(depth, item.depth());
  return depth;
}

template <typename T>
const T* pointee(const Value& value) {
  const auto* pointer = value.get<std::shared_ptr<const T>>();
  return pointer == nullptr ? nullptr : pointer->get();
}

}  // namespace

Value Value::undefined(std::string why) {
  return Value(Storage(Undefined{std::make_shared<const std::string>(std::move(why))}));
}

Value Value::text(MarkedText text, bool is_markup) {
  return Value(Storage(std::make_shared<const Text>(Text{std::move(text), is_markup})));
}

Value Value::text(std::string bytes, Origin origin) { return text(MarkedText(std::move(bytes), origin)); }

Value Value::list(std::vector<Value> items, Budget& budget, List::Kind kind) {
  budget.make(items.size() * sizeof(Value));
  const int depth = checked_depth(deepest(items), budget);
  return Value(Storage(std::make_shared<const List>(List{std::move(items), kind, "", depth})));
}

Value Value::view(std::vector<Value> items, Budget& budget, const char* name) {
  budget.make(items.size() * sizeof(Value));
  const int depth = checked_depth(deepest(items), budget);
  return Value(Storage(std::make_shared<const List>(List{std::move(items), List::Kind::kView, name, depth})));
}

Value Value::dict(std::vector<std::pair<Value, Value>> items, Budget& budget) {
  budget.make(items.size() * 2 * sizeof(Value));
  int depth = 0;
  for (const auto& [key, value] : items) depth = std::max({depth, key.depth(), value.depth()});
  depth = checked_depth(depth, budget);
  return Value(Storage(std::make_shared<const Dict>(Dict{std::move(items), depth})));
}

Value Value::iterator(std::vector<Value> items, Budget& budget) {
  budget.make(items.size() * sizeof(Value));
  const int depth = checked_depth(deepest(items), budget);
  return Value(Storage(std::make_shared<Iterator>(Iterator{std::move(items), 0, depth})));
}

const Text* Value::as_text() const { return pointee<Text>(*this); }
const List* Value::as_list() const { return pointee<List>(*this); }
const Dict* Value::as_dict() const { return pointee<Dict>(*this); }
const Callable* Value::as_callable() const { return pointee<Callable>(*this); }

Iterator* Value::as_iterator() const {
  const auto* pointer = get<std::shared_ptr<Iterator>>();
  return pointer == nullptr ? nullptr : pointer->get();
}

Namespace* Value::as_namespace() const {
  const auto* pointer = get<Namespace*>();
  return pointer == nullptr ? nullptr : *pointer;
}

Loop* Value::as_loop() const {
  const auto* pointer = get<std::shared_ptr<Loop>>();
  return pointer == nullptr ? nullptr : pointer->get();
}

const int64_t* Value::as_integer(int64_t& buffer) const {
  if (const int64_t* value = get<int64_t>()) return value;
  const bool* value = get<bool>();
  if (value == nullptr) return nullptr;
  buffer = *value ? 1 : 0;
  return &buffer;
}

const char* Value::type_name() const {
  if (const List* list = as_list()) {
    constexpr const char* kNames[] = {"list", "tuple", "range", ""};
    return list->kind == List::Kind::kView ? list->view_name : kNames[static_cast<size_t>(list->kind)];
  }
  constexpr const char* kNames[] = {"Undefined", "NoneType", "bool",      "int",       "float", "str",
                                    "list",      "dict",     "generator", "Namespace", "loop",  "function"};
  return kNames[storage_.index()];
}

int Value::depth() const {
  if (const List* list = as_list()) return list->depth;
  if (const Dict* dict = as_dict()) return dict->depth;
  if (const Iterator* iterator = as_iterator()) return iterator->depth;
  if (const Callable* callable = as_callable()) return callable->self.depth() + 1;
  if (const Loop* loop = as_loop()) return loop_depth(*loop);
  return 0;
}

void fail_undefined(const Value& value) {
  const Undefined* undefined = value.get<Undefined>();
  fail(undefined != nullptr && undefined->why ? *undefined->why : "a value is undefined");
}

}  // namespace sepllm::jinja
