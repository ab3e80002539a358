#include "base/json.h"

#include <fmt/format.h>

#include <cmath>
#include <set>
#include <vector>

#include "base/error.h"
#include "base/utf8.h"

namespace sepllm {
namespace {

constexpr int kMaxDepth = 64;

std::string brief(const Json& value) {
  const std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
  return text.size() > 60 ? text.substr(0, 60) + "..." : text;
}

template <typename J>
J parse_checked(std::string_view text, const std::string& file) {
  if (const auto bad = utf8_find_invalid(text)) {
    throw Error(ErrorCode::kBadFile, "invalid UTF-8 in JSON",
                {.file = file, .place = fmt::format("byte {}", *bad)});
  }
  std::vector<std::set<std::string>> keys;
  const auto callback = [&](int depth, typename J::parse_event_t event, J& parsed) {
    if (depth > kMaxDepth) {
      throw Error(ErrorCode::kBadFile, "JSON nested too deeply",
                  {.file = file, .expected = fmt::format("at most {} levels", kMaxDepth)});
    }
    if (event == J::parse_event_t::object_start) keys.emplace_back();
    if (event == J::parse_event_t::object_end) keys.pop_back();
    if (event == J::parse_event_t::key && !keys.back().insert(parsed.template get<std::string>()).second) {
      throw Error(ErrorCode::kBadFile, "duplicate key in JSON",
                  {.file = file, .place = parsed.template get<std::string>()});
    }
    return true;
  };
  try {
    return J::parse(text.begin(), text.end(), callback);
  } catch (const typename J::parse_error& e) {
    std::string what = e.what();
    if (const size_t at = what.find("parse error"); at != std::string::npos) what = what.substr(at);
    throw Error(ErrorCode::kBadFile, "not valid JSON: " + what,
                {.file = file, .place = fmt::format("byte {}", e.byte)});
  } catch (const typename J::exception& e) {
    throw Error(ErrorCode::kBadFile, std::string("not valid JSON: ") + e.what(), {.file = file});
  }
}

}  // namespace

Json parse_json(std::string_view text, const std::string& file) { return parse_checked<Json>(text, file); }

SortedJson parse_sorted_json(std::string_view text, const std::string& file) {
  return parse_checked<SortedJson>(text, file);
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
