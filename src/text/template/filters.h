// Filters: value | name(arguments). Each is one function, in tables by what they work on.
#pragma once

#include <map>
#include <string>

#include "text/template/interpreter.h"

namespace sepllm::jinja {

using Filter = Value (*)(Interpreter&, const Value& subject, Parameters&);
using FilterTable = std::map<std::string, Filter>;

const FilterTable& text_filters();                                              // filters_of_text.cc
const FilterTable& list_filters();                                              // filters_of_lists.cc
const FilterTable& selecting_filters();                                         // filters_that_select.cc
const FilterTable& number_filters();                                            // filters_of_numbers.cc
Value to_json(Interpreter& run, const Value& subject, Parameters& parameters);  // tojson.cc

// The attribute of a value that a filter is told to look at: `path` is "a.b.0" or an integer, or null for the
// value itself. `fallback` (may be null) replaces an undefined value.
Value value_at(Interpreter& run, const Value& value, const Value* path, const Value* fallback);
// Texts in lower case, which sort, unique, min, max, groupby compare by default.
Value without_case(Interpreter& run, const Value& value);

bool is_filter(const std::string& name);
bool is_test(const std::string& name);

}  // namespace sepllm::jinja
