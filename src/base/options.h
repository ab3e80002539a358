// Options declared once: the command line, JSON files and requests, --help and the JSON echo all read the
// same list.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"

namespace sepllm {

struct Option {
  std::string name;          // "prompt-file": without dashes; also the JSON key
  std::string value_name{};  // "N", "FILE"; empty for a flag
  std::string help{};
  bool repeatable = false;  // takes one or more values, kept in order
  std::function<void(const std::string&)>
      set;  // Error (kInvalidArgument) naming the option, what was expected and what was given
  std::function<Json()> get;
  bool was_set = false;
  bool in_json = true;  // part of to_json() and allowed in apply_json()
};

class OptionSet {
 public:
  void add_int(const std::string& name, int64_t* target, int64_t min, int64_t max, const std::string& help,
               const std::string& value_name = "N");
  void add_double(const std::string& name, double* target, double min, double max, const std::string& help,
                  const std::string& value_name = "X");
  void add_string(const std::string& name, std::string* target, const std::string& help,
                  const std::string& value_name = "TEXT");
  void add_strings(const std::string& name, std::vector<std::string>* target, const std::string& help,
                   const std::string& value_name = "FILE");
  void add_choice(const std::string& name, std::string* target, const std::vector<std::string>& choices,
                  const std::string& help);
  void add_flag(const std::string& name, bool* target, const std::string& help);
  // Full control: for values with a syntax of their own ("64|unbounded").
  void add(Option option);

  // Error (kInvalidArgument) for an unknown name, with the nearest known one as hint.
  void set(const std::string& name, const std::string& value);
  bool was_set(const std::string& name) const;
  // Sets from a JSON object (strings, numbers, booleans, arrays for repeatable ones); skips options already
  // set, so that flags win. Unknown keys are an Error with file and nearest name.
  void apply_json(const JsonObject& object);
  Json to_json() const;

  std::vector<Option>& options() { return options_; }
  const std::vector<Option>& options() const { return options_; }

 private:
  Option* find(const std::string& name);
  const Option* find(const std::string& name) const;

  std::vector<Option> options_;
};

// All of `text` as a decimal integer; nullopt if it is none, or does not fit.
std::optional<int64_t> parse_integer(std::string_view text);

// Throws the Error of an option's wrong value, as Option::set does.
[[noreturn]] void refuse_value(const std::string& option, const std::string& expected,
                               const std::string& got);

// The candidate nearest to `name` by edit distance, if near enough to be a likely slip; else "".
std::string nearest_name(const std::string& name, const std::vector<std::string>& candidates);

}  // namespace sepllm
