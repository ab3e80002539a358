// JSON: nlohmann's value type, read with the checks that untrusted files need.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace sepllm {

using Json = nlohmann::ordered_json;

// Parses one JSON value. Error (kBadFile) with `file` and the byte offset for: syntax errors, invalid UTF-8,
// nesting deeper than 64, duplicate keys in an object, anything after the value. Takes linear time; finding a
// member of an object of very many keys is a linear search: iterate instead.
Json parse_json(std::string_view text, const std::string& file);

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
