#include "base/json.h"

#include <fmt/format.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "base/error.h"
#include "base/file.h"
#include "base/file_kind.h"

namespace sepllm {
namespace {

std::string brief(const Json& value) {
  const std::string text = python_json_text(value);
  return text.size() > 60 ? text.substr(0, 60) + "..." : text;
}

// The text of a value that contains no other values.
std::string scalar_text(const Json& value) {
  if (value.is_number_float() && !std::isfinite(value.get<double>())) {
    const auto number = value.get<double>();
    return std::isnan(number) ? "NaN" : number > 0 ? "Infinity" : "-Infinity";
  }
  return json_text(value);
}

// The same layout as the library's.
void append_text(const Json& value, int indent, int depth, std::string* out) {
  if (!value.is_structured() || value.empty()) {
    *out += scalar_text(value);
    return;
  }
  const auto new_line = [&](int level) {
    if (indent >= 0)
      *out += "\n" + std::string(static_cast<size_t>(indent) * static_cast<size_t>(level), ' ');
  };
  const bool object = value.is_object();
  *out += object ? '{' : '[';
  bool first = true;
  for (const auto& [key, member] : value.items()) {
    if (!std::exchange(first, false)) *out += ',';
    new_line(depth + 1);
    if (object) *out += scalar_text(key) + (indent >= 0 ? ": " : ":");
    append_text(member, indent, depth + 1, out);
  }
  new_line(depth);
  *out += object ? '}' : ']';
}

}  // namespace

std::string json_text(const Json& value, int indent) {
  return value.dump(indent, ' ', false, Json::error_handler_t::replace);
}

std::string python_json_text(const Json& value, int indent) {
  std::string out;
  append_text(value, indent, 0, &out);
  return out;
}

Json read_json(const std::string& path, uint64_t max_bytes, const JsonRules& rules) {
  const std::string text = read_file(path, max_bytes);
  try {
    return parse_json(text, path, rules);
  } catch (const Error&) {
    refuse_other_kind(text, path, "a JSON file", {FileKind::kJson});
    throw;
  }
}

JsonObject::JsonObject(const Json& value, std::string file, std::string path)
    : value_(&value), file_(std::move(file)), path_(std::move(path)) {
  if (!value.is_object()) {
    throw Error(ErrorCode::kBadFile, "wrong type",
                {.file = file_, .place = path_, .expected = "a JSON object", .got = brief(value)});
  }
}

std::string JsonObject::path_of(const char* key) const { return path_.empty() ? key : path_ + "." + key; }

bool JsonObject::has(const char* key) const {
  const auto it = value_->find(key);
  return it != value_->end() && !it->is_null();
}

const Json& JsonObject::at(const char* key) const {
  const auto it = value_->find(key);
  if (it == value_->end())
    throw Error(ErrorCode::kNotFound, "missing key", {.file = file_, .place = path_of(key)});
  return *it;
}

int64_t JsonObject::integer(const char* key, int64_t min, int64_t max) const {
  const Json& value = at(key);
  const auto wrong = [&] {
    return Error(ErrorCode::kBadFile, "wrong value",
                 {.file = file_,
                  .place = path_of(key),
                  .expected = fmt::format("an integer from {} to {}", min, max),
                  .got = brief(value)});
  };
  int64_t result = 0;
  if (value.is_number_unsigned()) {
    const auto u = value.get<uint64_t>();
    if (u > static_cast<uint64_t>(INT64_MAX)) throw wrong();
    result = static_cast<int64_t>(u);
  } else if (value.is_number_integer()) {
    result = value.get<int64_t>();
  } else if (value.is_number_float()) {
    const double d = value.get<double>();
    if (!(std::abs(d) < 9e15) || d != std::floor(d)) throw wrong();
    result = static_cast<int64_t>(d);
  } else {
    throw wrong();
  }
  if (result < min || result > max) throw wrong();
  return result;
}

int64_t JsonObject::integer_or(const char* key, int64_t fallback, int64_t min, int64_t max) const {
  return has(key) ? integer(key, min, max) : fallback;
}

double JsonObject::number(const char* key) const {
  const Json& value = at(key);
  if (!value.is_number() || !std::isfinite(value.get<double>())) {
    throw Error(ErrorCode::kBadFile, "wrong value",
                {.file = file_, .place = path_of(key), .expected = "a finite number", .got = brief(value)});
  }
  return value.get<double>();
}

double JsonObject::number_or(const char* key, double fallback) const {
  return has(key) ? number(key) : fallback;
}

bool JsonObject::boolean_or(const char* key, bool fallback) const {
  if (!has(key)) return fallback;
  const Json& value = at(key);
  if (!value.is_boolean()) {
    throw Error(ErrorCode::kBadFile, "wrong value",
                {.file = file_, .place = path_of(key), .expected = "true or false", .got = brief(value)});
  }
  return value.get<bool>();
}

std::string JsonObject::string(const char* key) const {
  const Json& value = at(key);
  if (!value.is_string()) {
    throw Error(ErrorCode::kBadFile, "wrong value",
                {.file = file_, .place = path_of(key), .expected = "a string", .got = brief(value)});
  }
  return value.get<std::string>();
}

std::string JsonObject::string_or(const char* key, const std::string& fallback) const {
  return has(key) ? string(key) : fallback;
}

JsonObject JsonObject::object(const char* key) const { return {at(key), file_, path_of(key)}; }

}  // namespace sepllm
