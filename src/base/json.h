// JSON: nlohmann's value type, read with the checks that untrusted files need, but as leniently as Python's
// json, which wrote most of these files.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/json_library.h"

namespace sepllm {

using Json = nlohmann::ordered_json;

struct JsonRules {
  // if true, a key that occurs twice in an object is an Error: for files where it would hide a mistake
  bool refuse_duplicates = false;
  // If true, half of a pair of \u escapes (a "lone surrogate", which is not a character) stays in the string
  // as the three bytes that UTF-8 would have for it, although they are not valid UTF-8. Otherwise it is an
  // Error.
  bool keep_surrogates = false;
};

// Things that Python's json reads without complaint although they are not JSON.
struct JsonOddities {
  int64_t count = 0;
  std::string first{};  // where and what: "score: NaN is no number in JSON"
};

// Parses one JSON value. If a key occurs twice, its last value counts; NaN, Infinity, -Infinity and numbers
// that are too large become such doubles. Both are counted in `oddities` or, without it, lead to one warning.
// Error (kBadFile) with `file` and the place for: syntax errors, invalid UTF-8, nesting deeper than 64,
// anything after the value. Takes linear time. Finding a member of an object with very many keys is a linear
// search: iterate instead.
Json parse_json(std::string_view text, const std::string& file, const JsonRules& rules = {},
                JsonOddities* oddities = nullptr);

// The value, or null where parse_json would throw: for lines that may have been cut off.
Json json_or_null(std::string_view text);

// The same parser, but it reports events in order: for texts that are too large to become a Json. It never
// calls the handler's parse_error(); a handler function that returns false is a bug.
using JsonEvents = nlohmann::json_sax<Json>;
void parse_json_events(std::string_view text, const std::string& file, const JsonRules& rules,
                       JsonEvents* handler);

// The text of a value; never throws. Bytes of its strings that are not UTF-8 become U+FFFD. indent: blanks
// per level; -1: all on one line. NaN and infinities become null, because JSON does not have them.
std::string json_text(const Json& value, int indent = -1);
// The same, but NaN and infinities are written as Python writes them, which parse_json reads back: for files
// that are passed on, and for messages.
std::string python_json_text(const Json& value, int indent = -1);

// Reads the JSON file `path`. Error as for read_file() and parse_json(). If the file is of another kind (a
// Git LFS pointer, a web page saved in its place), the Error says so and what to do.
Json read_json(const std::string& path, uint64_t max_bytes, const JsonRules& rules = {});

// Typed access to the members of an object. Errors name the file and the path of the key
// ("rope_scaling.factor").
class JsonObject {
 public:
  // Error if `value` is not an object. Keeps a reference to `value`.
  JsonObject(const Json& value, std::string file, std::string path = "");

  bool has(const char* key) const;        // present and not null
  const Json& at(const char* key) const;  // Error (kNotFound) if absent
  // Integers may be written as floats without a fraction (as some tools do). A number outside [min, max] or a
  // value of another type is an Error.
  int64_t integer(const char* key, int64_t min, int64_t max) const;
  int64_t integer_or(const char* key, int64_t fallback, int64_t min, int64_t max) const;
  double number(const char* key) const;  // finite
  double number_or(const char* key, double fallback) const;
  bool boolean_or(const char* key, bool fallback) const;
  std::string string(const char* key) const;
  std::string string_or(const char* key, const std::string& fallback) const;
  JsonObject object(const char* key) const;

  const Json& json() const { return *value_; }
  const std::string& file() const { return file_; }
  std::string path_of(const char* key) const;

 private:
  const Json* value_;
  std::string file_;
  std::string path_;
};

}  // namespace sepllm
