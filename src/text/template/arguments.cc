#include "text/template/arguments.h"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace sepllm::jinja {

Parameters::Parameters(std::string function, const Arguments& arguments)
    : function_(std::move(function)), arguments_(arguments), taken_(arguments.named.size(), false) {}

void Parameters::refuse(const std::string& why) const { fail(function_ + ": " + why); }

const Value* Parameters::next(const char* name) {
  const Value* value = nullptr;
  if (at_ < arguments_.positional.size()) value = &arguments_.positional[at_++];
  for (size_t k = 0; k < taken_.size(); ++k) {
    if (arguments_.named[k].first != name) continue;
    if (value != nullptr) refuse(std::string("parameter '") + name + "' is given twice");
    taken_[k] = true;
    value = &arguments_.named[k].second;
  }
  return value;
}

const Value& Parameters::required(const char* name) {
  const Value* value = next(name);
  if (value == nullptr) refuse(std::string("parameter '") + name + "' is missing");
  return *value;
}

std::optional<int64_t> Parameters::integer(const char* name) {
  const Value* value = next(name);
  if (value == nullptr || value->is_none()) return std::nullopt;
  int64_t buffer;
  const int64_t* integer = value->as_integer(buffer);
  if (integer == nullptr) refuse(std::string("'") + name + "' must be an integer, not " + value->type_name());
  return *integer;
}

bool Parameters::boolean_or(const char* name, bool fallback, Budget& budget) {
  const Value* value = next(name);
  if (value == nullptr) return fallback;
  budget.step();
  if (const bool* b = value->get<bool>()) return *b;
  int64_t buffer;
  if (const int64_t* integer = value->as_integer(buffer)) return *integer != 0;
  if (const Text* text = value->as_text()) return !text->text.empty();
  if (value->is_none() || value->is_undefined()) return false;
  refuse(std::string("'") + name + "' must be true or false, not " + value->type_name());
}

const Text* Parameters::text(const char* name) {
  const Value* value = next(name);
  if (value == nullptr || value->is_none()) return nullptr;
  if (value->as_text() == nullptr) {
    refuse(std::string("'") + name + "' must be a string, not " + value->type_name());
  }
  return value->as_text();
}

const Text& Parameters::required_text(const char* name) {
  const Text* value = text(name);
  if (value == nullptr) refuse(std::string("parameter '") + name + "' is missing");
  return *value;
}

std::vector<Value> Parameters::rest() {
  const size_t from = std::exchange(at_, arguments_.positional.size());
  return {arguments_.positional.begin() + static_cast<std::ptrdiff_t>(from), arguments_.positional.end()};
}

void Parameters::done() const {
  if (at_ < arguments_.positional.size()) {
    refuse("takes at most " + std::to_string(at_) + " arguments, got " +
           std::to_string(arguments_.positional.size()));
  }
  for (size_t k = 0; k < taken_.size(); ++k) {
    if (!taken_[k]) refuse("has no parameter '" + arguments_.named[k].first + "'");
  }
}

}  // namespace sepllm::jinja
