// Typed access to the members of a request. A member that is null counts as absent. A wrong one is an
// ApiError with status 400 that names it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"

namespace sepllm::server {

class Fields {
 public:
  // Keeps a reference to `value`, which must be an object. `path`: where it stands in the request; empty: it
  // is the request.
  explicit Fields(const Json& value, std::string path = "");

  const Json* find(const char* name) const;  // null if absent
  std::optional<int64_t> integer(const char* name, int64_t min, int64_t max) const;
  std::optional<double> number(const char* name, double min, double max) const;
  std::optional<bool> boolean(const char* name) const;
  std::optional<std::string> text(const char* name) const;
  std::string path_of(const std::string& name) const { return path_.empty() ? name : path_ + "." + name; }
  [[noreturn]] void refuse(const char* name, const std::string& expected) const;

 private:
  const Json& value_;
  std::string path_;
};

// The request's JSON. ApiError for what is not an object in JSON.
Json parse_body(std::string_view body);

// Token ids of a list; ApiError naming `param` for anything else, and for ids outside the vocabulary.
std::vector<int32_t> read_ids(const Json& list, const std::string& param, int64_t vocab_size);

}  // namespace sepllm::server
