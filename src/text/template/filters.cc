#include "text/template/filters.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <string>

namespace sepllm::jinja {
namespace {

// Jinja's own filters that are left out: for web pages, for random choice, and others that no chat needs.
constexpr std::array<const char*, 11> kLeftOut = {"filesizeformat", "forceescape", "groupby",  "pprint",
                                                  "random",         "striptags",   "truncate", "urlencode",
                                                  "urlize",         "wordwrap",    "xmlattr"};

Filter find_filter(const std::string& name) {
  if (name == "tojson") return to_json;
  for (const FilterTable* table :
       {&text_filters(), &list_filters(), &selecting_filters(), &number_filters()}) {
    if (const auto filter = table->find(name); filter != table->end()) return filter->second;
  }
  return nullptr;
}

bool is_left_out(const std::string& name) {
  return std::find(kLeftOut.begin(), kLeftOut.end(), name) != kLeftOut.end();
}

}  // namespace

bool is_filter(const std::string& name) { return find_filter(name) != nullptr || is_left_out(name); }

Value Interpreter::filter(const std::string& name, const Value& subject, const Arguments& arguments) {
  const Filter filter = find_filter(name);
  if (filter == nullptr) {
    if (is_left_out(name)) fail_unsupported("the filter '" + name + "' is not supported");
    fail("there is no filter '" + name + "'");
  }
  budget_.step();
  Parameters parameters("filter '" + name + "'", arguments);
  return filter(*this, subject, parameters);
}

Value value_at(Interpreter& run, const Value& value, const Value* path, const Value* fallback) {
  if (path == nullptr || path->is_none()) return value;
  const auto step = [&](const Value& from, const Value& key) {
    Value next = run.item(from, key);
    const bool stands_in = fallback != nullptr && !fallback->is_none() && next.is_undefined();
    return stands_in ? *fallback : next;
  };
  const Text* text = path->as_text();
  if (text == nullptr) return step(value, *path);
  const std::string& names = text->text.bytes();
  Value out = value;
  for (size_t begin = 0; begin <= names.size();) {
    const size_t end = std::min(names.find('.', begin), names.size());
    const std::string name = names.substr(begin, end - begin);
    const bool is_index = !name.empty() && name.find_first_not_of("0123456789") == std::string::npos;
    out = step(out, is_index ? Value::integer(parse_int(name, 10).value_or(0))
                             : Value::text(name, Origin::kTemplate));
    begin = end + 1;
  }
  return out;
}

}  // namespace sepllm::jinja
