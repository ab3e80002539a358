// The metadata of a GGUF file, with typed access whose errors name the file and the key.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "checkpoint/gguf_value.h"

namespace sepllm {

// The values point into the file's bytes.
class GgufMetadata {
 public:
  GgufMetadata() = default;
  explicit GgufMetadata(std::string file) : file_(std::move(file)) {}

  const std::string& file() const { return file_; }
  const std::map<std::string, GgufValue>& values() const { return values_; }
  bool add(std::string key, const GgufValue& value);  // false: the key is there already

  bool has(const std::string& key) const { return values_.count(key) != 0; }
  const GgufValue& at(const std::string& key) const;  // Error (kNotFound)

  // Integers may have any integer type, since writers differ; another type, or a value out of [min, max], is
  // an Error (kBadFile).
  int64_t integer(const std::string& key, int64_t min, int64_t max) const;
  int64_t integer_or(const std::string& key, int64_t fallback, int64_t min, int64_t max) const;
  double number(const std::string& key) const;  // finite
  double number_or(const std::string& key, double fallback) const;
  bool boolean_or(const std::string& key, bool fallback) const;
  std::string string(const std::string& key) const;
  std::string string_or(const std::string& key, const std::string& fallback) const;
  // Arrays of at most `most` elements.
  std::vector<std::string_view> strings(const std::string& key, uint64_t most) const;
  std::vector<int64_t> integers(const std::string& key, uint64_t most, int64_t min, int64_t max) const;
  std::vector<float> floats(const std::string& key, uint64_t most) const;  // any numbers, NaN included

  // An Error (kBadFile) about the key.
  [[noreturn]] void fail(const std::string& key, const std::string& message, const std::string& expected = "",
                         const std::string& got = "") const;

 private:
  const GgufValue& array(const std::string& key, uint64_t most) const;
  int64_t checked_integer(const std::string& key, const GgufValue& value, int64_t min, int64_t max) const;

  std::string file_;
  std::map<std::string, GgufValue> values_;
};

}  // namespace sepllm
