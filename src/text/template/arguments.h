// The arguments of a call, and how a function reads them, by position or by name, as in Python.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "text/template/value.h"

namespace sepllm::jinja {

struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;
};

// A function asks for its parameters in their order. done() fails if arguments are left that no parameter
// took.
class Parameters {
 public:
  // `function`: for messages ("filter 'join'").
  Parameters(std::string function, const Arguments& arguments);

  // The next parameter, or null if it was not given. Failure if it was given twice.
  const Value* next(const char* name);
  const Value& required(const char* name);
  // Failure if it has another type. If there is a fallback, None counts as not given.
  std::optional<int64_t> integer(const char* name);
  int64_t integer_or(const char* name, int64_t fallback) { return integer(name).value_or(fallback); }
  // The truth of the value, as in Python.
  bool boolean_or(const char* name, bool fallback, Budget& budget);
  const Text* text(const char* name);
  const Text& required_text(const char* name);
  // All positional arguments from here on.
  std::vector<Value> rest();
  void done() const;
  const Arguments& arguments() const { return arguments_; }  // for functions that pass them on

  [[noreturn]] void refuse(const std::string& why) const;

 private:
  std::string function_;
  const Arguments& arguments_;
  size_t at_ = 0;
  std::vector<bool> taken_;  // for the named arguments
};

}  // namespace sepllm::jinja
