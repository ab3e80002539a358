#include "checkpoint/gguf_metadata.h"

#include <fmt/format.h>

#include <cmath>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"

namespace sepllm {
namespace {

// A value for a message.
std::string shown(const GgufValue& value) {
  if (const auto text = value.text()) return fmt::format("\"{}\"", text->substr(0, 60));
  if (const auto flag = value.boolean()) return *flag ? "true" : "false";
  if (const auto number = value.number()) return fmt::format("{}", *number);
  return fmt::format("an array of {} {}", value.count, gguf_type_name(value.element_type));
}

std::string with_type(const GgufValue& value) {
  return fmt::format("{} ({})", shown(value), gguf_type_name(value.type));
}

}  // namespace

bool GgufMetadata::add(std::string key, const GgufValue& value) {
  return values_.emplace(std::move(key), value).second;
}

void GgufMetadata::fail(const std::string& key, const std::string& message, const std::string& expected,
                        const std::string& got) const {
  throw Error(ErrorCode::kBadFile, message, {.file = file_, .place = key, .expected = expected, .got = got});
}

const GgufValue& GgufMetadata::at(const std::string& key) const {
  const auto it = values_.find(key);
  if (it == values_.end())
    throw Error(ErrorCode::kNotFound, "the metadata lack this key", {.file = file_, .place = key});
  return it->second;
}

int64_t GgufMetadata::checked_integer(const std::string& key, const GgufValue& value, int64_t min,
                                      int64_t max) const {
  const auto integer = value.integer();
  if (integer && *integer >= min && *integer <= max) return *integer;
  fail(key, "wrong value", fmt::format("an integer from {} to {}", min, max), with_type(value));
}

int64_t GgufMetadata::integer(const std::string& key, int64_t min, int64_t max) const {
  return checked_integer(key, at(key), min, max);
}

int64_t GgufMetadata::integer_or(const std::string& key, int64_t fallback, int64_t min, int64_t max) const {
  return has(key) ? integer(key, min, max) : fallback;
}

double GgufMetadata::number(const std::string& key) const {
  const auto value = at(key).number();
  if (!value || !std::isfinite(*value)) fail(key, "wrong value", "a finite number", with_type(at(key)));
  return *value;
}

double GgufMetadata::number_or(const std::string& key, double fallback) const {
  return has(key) ? number(key) : fallback;
}

bool GgufMetadata::boolean_or(const std::string& key, bool fallback) const {
  if (!has(key)) return fallback;
  const auto value = at(key).boolean();
  if (!value) fail(key, "wrong value", "a bool", with_type(at(key)));
  return *value;
}

std::string GgufMetadata::string(const std::string& key) const {
  const auto value = at(key).text();
  if (!value) fail(key, "wrong value", "a string", with_type(at(key)));
  return std::string(*value);
}

std::string GgufMetadata::string_or(const std::string& key, const std::string& fallback) const {
  return has(key) ? string(key) : fallback;
}

const GgufValue& GgufMetadata::array(const std::string& key, uint64_t most) const {
  const GgufValue& value = at(key);
  if (value.type != GgufType::kArray) fail(key, "wrong value", "an array", with_type(value));
  if (value.count > most)
    fail(key, "too many elements", fmt::format("at most {}", most), fmt::format("{}", value.count));
  return value;
}

std::vector<std::string_view> GgufMetadata::strings(const std::string& key, uint64_t most) const {
  const GgufValue& value = array(key, most);
  if (value.element_type != GgufType::kString) fail(key, "wrong value", "an array of strings", shown(value));
  std::vector<std::string_view> out;
  out.reserve(value.count);
  for_elements(value, [&](const GgufValue& element) { out.push_back(element.bytes); });
  return out;
}

std::vector<int64_t> GgufMetadata::integers(const std::string& key, uint64_t most, int64_t min,
                                            int64_t max) const {
  const GgufValue& value = array(key, most);
  std::vector<int64_t> out;
  for_elements(value,
               [&](const GgufValue& element) { out.push_back(checked_integer(key, element, min, max)); });
  return out;
}

std::vector<float> GgufMetadata::floats(const std::string& key, uint64_t most) const {
  const GgufValue& value = array(key, most);
  std::vector<float> out;
  for_elements(value, [&](const GgufValue& element) {
    const auto number = element.number();
    if (!number) fail(key, "wrong value", "an array of numbers", shown(value));
    out.push_back(static_cast<float>(*number));
  });
  return out;
}

}  // namespace sepllm
