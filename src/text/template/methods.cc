// Methods of lists, dictionaries and loops, and the list of all methods.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "text/template/compare.h"
#include "text/template/interpreter.h"
#include "text/template/loop.h"

namespace sepllm::jinja {
namespace {

template <size_t n>
bool is_one_of(const std::string& name, const std::array<const char*, n>& names) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

Value pair_of(const Value& key, const Value& value, Budget& budget) {
  return Value::list({key, value}, budget, List::Kind::kTuple);
}

Value call_dict_method(Interpreter& run, const Dict& dict, const Value& self, const std::string& name,
                       Parameters& parameters) {
  if (name == "get") {
    const Value& key = parameters.required("key");
    const Value* fallback = parameters.next("default");
    parameters.done();
    const Value* value = find_key(dict, key, run.budget());
    return value != nullptr ? *value : fallback != nullptr ? *fallback : Value();
  }
  parameters.done();
  if (name == "copy") return self;  // a copy is not needed, because neither can be changed
  std::vector<Value> items;
  for (const auto& [key, value] : dict.items) {
    items.push_back(name == "keys" ? key : name == "values" ? value : pair_of(key, value, run.budget()));
  }
  const char* view = name == "keys" ? "dict_keys" : name == "values" ? "dict_values" : "dict_items";
  return Value::view(std::move(items), run.budget(), view);
}

Value call_list_method(Interpreter& run, const List& list, const Value& self, const std::string& name,
                       Parameters& parameters) {
  if (name == "copy") {
    parameters.done();
    return self;
  }
  const Value& wanted = parameters.required("value");
  if (parameters.next("start") != nullptr) fail_unsupported("index() with a start is not supported");
  parameters.done();
  int64_t n = 0;
  for (size_t k = 0; k < list.items.size(); ++k) {
    if (!equal(list.items[k], wanted, run.budget())) continue;
    if (name == "index") return Value::integer(static_cast<int64_t>(k));
    ++n;
  }
  if (name == "index") fail("the value is not in the list");
  return Value::integer(n);
}

Value call_loop_method(Interpreter& run, Loop& loop, const std::string& name, Parameters& parameters) {
  const std::vector<Value> values = parameters.rest();
  parameters.done();
  if (name == "changed") return Value::boolean(loop.changed(values, run.budget()));
  if (values.empty()) fail("cycle() needs values");
  return values[static_cast<size_t>(loop.index0()) % values.size()];
}

}  // namespace

bool has_method(const Value& value, const std::string& name) {
  if (value.as_text() != nullptr) return is_text_method(name);
  if (value.as_dict() != nullptr) {
    return is_one_of<5>(name, {"get", "items", "keys", "values", "copy"});
  }
  if (const List* list = value.as_list()) {
    if (list->kind == List::Kind::kView) return false;
    return name == "index" || name == "count" || (name == "copy" && list->kind == List::Kind::kList);
  }
  return value.as_loop() != nullptr && (name == "cycle" || name == "changed");
}

bool is_changing_method(const Value& value, const std::string& name) {
  if (value.as_dict() != nullptr)
    return is_one_of<5>(name, {"clear", "pop", "popitem", "setdefault", "update"});
  const List* list = value.as_list();
  return list != nullptr && list->kind == List::Kind::kList &&
         is_one_of<8>(name, {"append", "clear", "extend", "insert", "pop", "remove", "reverse", "sort"});
}

Value call_method(Interpreter& run, const Callable& method, const Arguments& arguments) {
  const Value& self = method.self;
  if (const Text* text = self.as_text()) return call_text_method(run, *text, method.name, arguments);
  Parameters parameters("method '" + method.name + "'", arguments);
  if (const Dict* dict = self.as_dict()) return call_dict_method(run, *dict, self, method.name, parameters);
  if (const List* list = self.as_list()) return call_list_method(run, *list, self, method.name, parameters);
  if (Loop* loop = self.as_loop()) return call_loop_method(run, *loop, method.name, parameters);
  fail_unsupported("the method '" + method.name + "' is not supported");
}

}  // namespace sepllm::jinja
