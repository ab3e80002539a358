// Options are declared once: the command line, JSON files and requests, --help and the JSON echo all read the
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
  std::vector<std::string> choices{};  // all allowed values; empty: not a closed list
  // A list: every value counts, in order. (For other options that are given twice, the last value counts.)
  bool repeatable = false;
  bool takes_list = false;  // only for a list: several values may follow one flag (a shell's *.txt)
  std::function<void(const std::string&)>
      set;  // Error (kInvalidArgument) naming the option, what was expected and what was given
  std::function<Json()> get;
  Json default_value{};  // what get() returns right after the option is declared
  // what holds if the option is not given, where no value can say it: "all cores"
  std::string default_note{};
  bool was_set = false;
  bool in_json = true;  // appears in to_json() and is allowed in apply_json()

  // The default as --help and tables show it; empty for flags, lists and options without a default.
  std::string default_text() const;
};

class OptionSet {
 public:
  // Each of these returns the declared option, so that further fields can be set; the reference is valid
  // until the next one is declared.
  Option& add_int(const std::string& name, int64_t* target, int64_t min, int64_t max, const std::string& help,
                  const std::string& value_name = "N");
  Option& add_double(const std::string& name, double* target, double min, double max, const std::string& help,
                     const std::string& value_name = "X");
  Option& add_string(const std::string& name, std::string* target, const std::string& help,
                     const std::string& value_name = "TEXT");
  Option& add_strings(const std::string& name, std::vector<std::string>* target, const std::string& help,
                      const std::string& value_name = "FILE");
  Option& add_choice(const std::string& name, std::string* target, const std::vector<std::string>& choices,
                     const std::string& help);
  Option& add_flag(const std::string& name, bool* target, const std::string& help);
  // Full control, for values with a syntax of their own ("64|unbounded").
  Option& add(Option option);

  // Error (kInvalidArgument) for an unknown name; the hint is the nearest known name.
  void set(const std::string& name, const std::string& value);
  bool was_set(const std::string& name) const;
  // Sets options from a JSON object (strings, numbers, booleans, arrays for repeatable ones); skips options
  // that are already set, so that flags win. Unknown keys are an Error with the file and the nearest name.
  void apply_json(const JsonObject& object);
  Json to_json() const;

  std::vector<Option>& options() { return options_; }
  const std::vector<Option>& options() const { return options_; }

 private:
  Option* find(const std::string& name);
  const Option* find(const std::string& name) const;

  std::vector<Option> options_;
};

// All of `text` as a decimal integer; nullopt if it is not one, or does not fit.
std::optional<int64_t> parse_integer(std::string_view text);

// Throws the Error for a wrong value of an option, as Option::set does.
[[noreturn]] void refuse_value(const std::string& option, const std::string& expected,
                               const std::string& got);

// The candidate nearest to `name` by edit distance, if it is near enough to be a likely typo; else "".
std::string nearest_name(const std::string& name, const std::vector<std::string>& candidates);

}  // namespace sepllm
