// map, select, reject and similar ones: they apply a filter or test to each item.
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "text/template/compare.h"
#include "text/template/filters.h"

namespace sepllm::jinja {
namespace {

Value map(Interpreter& run, const Value& subject, Parameters& parameters) {
  const Value* attribute = nullptr;
  const Value* fallback = nullptr;
  const Arguments& given = parameters.arguments();
  Arguments rest;
  std::string name;
  if (given.positional.empty()) {
    for (const auto& [key, value] : given.named) {
      if (key != "attribute" && key != "default") parameters.refuse("has no parameter '" + key + "'");
      (key == "attribute" ? attribute : fallback) = &value;
    }
    if (attribute == nullptr) parameters.refuse("needs the name of a filter, or an attribute");
  } else {
    const Text* text = given.positional[0].as_text();
    if (text == nullptr) parameters.refuse("needs the name of a filter");
    name = text->text.bytes();
    rest.positional.assign(given.positional.begin() + 1, given.positional.end());
    rest.named = given.named;
  }
  std::vector<Value> out;
  for (const Value& item : run.items_of(subject)) {
    run.budget().step();
    out.push_back(name.empty() ? value_at(run, item, attribute, fallback) : run.filter(name, item, rest));
  }
  return Value::iterator(std::move(out), run.budget());
}

// `wanted`: which outcome of the test lets an item through. `of_attribute`: the test is for an attribute of
// it.
template <bool wanted, bool of_attribute>
Value select(Interpreter& run, const Value& subject, Parameters& parameters) {
  const Arguments& given = parameters.arguments();
  const size_t first = of_attribute ? 1 : 0;
  if (given.positional.size() < first) parameters.refuse("needs the name of an attribute");
  const Value* path = of_attribute ? &given.positional[0] : nullptr;
  std::string name;
  Arguments rest;
  if (given.positional.size() > first) {
    const Text* text = given.positional[first].as_text();
    if (text == nullptr) parameters.refuse("needs the name of a test");
    name = text->text.bytes();
    rest.positional.assign(given.positional.begin() + static_cast<std::ptrdiff_t>(first) + 1,
                           given.positional.end());
    rest.named = given.named;
  }
  std::vector<Value> out;
  for (const Value& item : run.items_of(subject)) {
    run.budget().step();
    const Value value = value_at(run, item, path, nullptr);
    const bool holds = name.empty() ? is_true(value, run.budget()) : run.test(name, value, rest);
    if (holds == wanted) out.push_back(item);
  }
  return Value::iterator(std::move(out), run.budget());
}

}  // namespace

const FilterTable& selecting_filters() {
  static const FilterTable kFilters = {{"map", map},
                                       {"reject", select<false, false>},
                                       {"rejectattr", select<false, true>},
                                       {"select", select<true, false>},
                                       {"selectattr", select<true, true>}};
  return kFilters;
}

}  // namespace sepllm::jinja
