// JSON: nlohmann's value type, read with the checks that untrusted files need, and as leniently as Python's
// json, which has written most of these files.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/json_library.h"

namespace sepllm {

using Json = nlohmann::ordered_json;

struct JsonRules {
  bool refuse_duplicates = false;  // a key twice in an object is an Error: where it would hide a mistake
  // Half of a pair of \u escapes (a "lone surrogate", which is no character) stays in the string as the three
  // bytes that UTF-8 would have for it, which are no valid UTF-8; else it is an Error.
  bool keep_surrogates = false;
};

// What Python's json reads without a word though it is no JSON.
struct JsonOddities {
  int64_t count = 0;
  std::string first{};  // where, and what: "score: NaN is no number in JSON"
};

// Parses one JSON value. Of a key that comes twice the last value counts; NaN, Infinity, -Infinity and
// numbers too large for a double are such doubles. Both are counted in `oddities`, or, without it, lead to
// one warning. Error (kBadFile) with `file` and the place for: syntax errors, invalid UTF-8, nesting deeper
// than 64, anything after the value. Takes linear time; finding a member of an object of very many keys is a
// linear search: iterate instead.
Json parse_json(std::string_view text, const std::string& file, const JsonRules& rules = {},
                JsonOddities* oddities = nullptr);

// The value, or null where parse_json would refuse the text: for lines that may have been cut off.
Json json_or_null(std::string_view text);

// The same reading as events, in order, for what is too large to become a Json. The handler's parse_error()
// is never called; one of its functions that returns false is a bug.
using JsonEvents = nlohmann::json_sax<Json>;
void parse_json_events(std::string_view text, const std::string& file, const JsonRules& rules,
                       JsonEvents* handler);

// The text of a value; never an exception. Bytes of its strings that are no UTF-8 become U+FFFD. indent:
// blanks per level; -1: all on one line. NaN and infinities are null, as JSON has it ...
std::string json_text(const Json& value, int indent = -1);
// ... or written as Python does, which parse_json reads back: for files that are passed on, and for messages.
std::string python_json_text(const Json& value, int indent = -1);

// The JSON file `path`. Error as read_file() and parse_json(), and where the file is of another kind (a Git
// LFS pointer, a page that was saved in its place) one that says so and what to do.
Json read_json(const std::string& path, uint64_t max_bytes, const JsonRules& rules = {});

// Typed access to the members of an object with errors that name the file and the path of the key
// ("rope_scaling.factor").
class JsonObject {
 public:
  // Error if `value` is not an object. Keeps a reference to `value`.
  JsonObject(const Json& value, std::string file, std::string path = "");

  bool has(const char* key) const;        // present and not null
  const Json& at(const char* key) const;  // Error (kNotFound) if absent
  // Integers may be written as integral floats (as some tools do); out of [min, max] or of another type is an
  // Error.
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
