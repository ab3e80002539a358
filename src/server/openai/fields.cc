#include "server/openai/fields.h"

#include <fmt/format.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "server/openai/api_error.h"

namespace sepllm::server {
namespace {

// What a message quotes of a request.
std::string quoted(const Json& value) {
  constexpr size_t kLongest = 60;
  if (value.is_array()) return "an array";
  if (value.is_object()) return "an object";
  std::string text = json_text(value);
  if (text.size() > kLongest) text = text.substr(0, kLongest) + "...";
  return text;
}

ApiError wrong(const std::string& param, const std::string& expected, const Json& got) {
  return {400, fmt::format("'{}' must be {}, not {}", param, expected, quoted(got)), param, "invalid_value"};
}

// Integers may be written as floats without a fraction.
std::optional<int64_t> integer_of(const Json& value) {
  if (value.is_number_unsigned()) {
    const auto u = value.get<uint64_t>();
    return u <= static_cast<uint64_t>(INT64_MAX) ? std::optional(static_cast<int64_t>(u)) : std::nullopt;
  }
  if (value.is_number_integer()) return value.get<int64_t>();
  if (!value.is_number_float()) return std::nullopt;
  const auto d = value.get<double>();
  if (!(std::abs(d) < 9e15) || d != std::floor(d)) return std::nullopt;
  return static_cast<int64_t>(d);
}

}  // namespace

Fields::Fields(const Json& value, std::string path) : value_(value), path_(std::move(path)) {
  if (value.is_object()) return;
  throw ApiError(400,
                 path_.empty() ? "the body of the request must be a JSON object"
                               : fmt::format("'{}' must be an object, not {}", path_, quoted(value)),
                 path_, "invalid_type");
}

const Json* Fields::find(const char* name) const {
  const auto it = value_.find(name);
  return it == value_.end() || it->is_null() ? nullptr : &*it;
}

void Fields::refuse(const char* name, const std::string& expected) const {
  const Json* value = find(name);
  throw wrong(path_of(name), expected, value != nullptr ? *value : Json());
}

std::optional<int64_t> Fields::integer(const char* name, int64_t min, int64_t max) const {
  const Json* value = find(name);
  if (value == nullptr) return std::nullopt;
  const std::optional<int64_t> number = integer_of(*value);
  if (!number || *number < min || *number > max)
    refuse(name, fmt::format("an integer from {} to {}", min, max));
  return number;
}

std::optional<double> Fields::number(const char* name, double min, double max) const {
  const Json* value = find(name);
  if (value == nullptr) return std::nullopt;
  const double number = value->is_number() ? value->get<double>() : std::nan("");
  if (!(number >= min && number <= max)) refuse(name, fmt::format("a number from {} to {}", min, max));
  return number;
}

std::optional<bool> Fields::boolean(const char* name) const {
  const Json* value = find(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_boolean()) refuse(name, "true or false");
  return value->get<bool>();
}

std::optional<std::string> Fields::text(const char* name) const {
  const Json* value = find(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_string()) refuse(name, "a string");
  return value->get<std::string>();
}

Json parse_body(std::string_view body) {
  if (body.empty()) throw ApiError(400, "the request has no body; a JSON object is expected");
  JsonOddities oddities;
  Json json;
  try {
    json = parse_json(body, "the body of the request", {}, &oddities);
  } catch (const Error& error) {
    throw as_api_error(error);
  }
  if (oddities.count > 0) throw ApiError(400, "the body of the request is no JSON: " + oddities.first);
  const Fields checked(json);
  return json;
}

std::vector<int32_t> read_ids(const Json& list, const std::string& param, int64_t vocab_size) {
  if (!list.is_array()) throw wrong(param, "a list of token ids", list);
  std::vector<int32_t> ids;
  ids.reserve(list.size());
  for (const Json& one : list) {
    const std::optional<int64_t> id = integer_of(one);
    if (!id || *id < 0 || *id >= vocab_size)
      throw wrong(param, fmt::format("a list of token ids from 0 to {}", vocab_size - 1), one);
    ids.push_back(static_cast<int32_t>(*id));
  }
  return ids;
}

}  // namespace sepllm::server
