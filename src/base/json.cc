#include "base/json.h"

#include <fmt/format.h>

#include <cmath>
#include <unordered_set>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/error.h"
#include "base/utf8.h"

namespace sepllm {
namespace {

constexpr size_t kMaxDepth = 64;

std::string brief(const Json& value) {
  const std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
  return text.size() > 60 ? text.substr(0, 60) + "..." : text;
}

// Builds the value as it is read. The library's own ways are no match for hostile input: its callback parser
// walks an object again for every object in it, and its ordered objects search for each new key.
class Builder : public nlohmann::json_sax<Json> {
 public:
  explicit Builder(const std::string& file) : file_(file) {}
  Json take() { return std::move(root_); }

  bool null() override { return add(nullptr); }
  bool boolean(bool value) override { return add(value); }
  bool number_integer(number_integer_t value) override { return add(value); }
  bool number_unsigned(number_unsigned_t value) override { return add(value); }
  bool number_float(number_float_t value, const string_t&) override { return add(value); }
  bool string(string_t& value) override { return add(std::move(value)); }
  bool binary(binary_t&) override { return false; }
  bool start_object(size_t) override {
    keys_.emplace_back();
    return open(Json::object());
  }
  bool end_object() override {
    keys_.pop_back();
    return close();
  }
  bool start_array(size_t) override { return open(Json::array()); }
  bool end_array() override { return close(); }

  bool key(string_t& key) override {
    if (!keys_.back().insert(key).second) {
      throw Error(ErrorCode::kBadFile, "duplicate key in JSON", {.file = file_, .place = key});
    }
    key_ = std::move(key);
    return true;
  }

  bool parse_error(size_t position, const std::string&, const nlohmann::detail::exception& e) override {
    std::string what = e.what();
    if (const size_t at = what.find("parse error"); at != std::string::npos) what = what.substr(at);
    throw Error(ErrorCode::kBadFile, "not valid JSON: " + what,
                {.file = file_, .place = fmt::format("byte {}", position)});
  }

 private:
  template <typename T>
  bool add(T&& value) {
    place(Json(std::forward<T>(value)));
    return true;
  }
  Json* place(Json value) {
    if (open_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    Json& parent = *open_.back();
    if (parent.is_array()) {
      parent.push_back(std::move(value));
      return &parent.back();
    }
    // key() has made sure that it is new.
    auto& members = parent.get_ref<Json::object_t&>();
    members.emplace_back(std::move(key_), std::move(value));
    return &members.back().second;
  }
  bool open(Json container) {
    if (open_.size() >= kMaxDepth) {
      throw Error(ErrorCode::kBadFile, "JSON nested too deeply",
                  {.file = file_, .expected = fmt::format("at most {} levels", kMaxDepth)});
    }
    open_.push_back(place(std::move(container)));
    return true;
  }
  bool close() {
    open_.pop_back();
    return true;
  }

  const std::string& file_;
  Json root_;
  std::string key_;
  std::vector<Json*> open_;                            // from the root to the innermost
  std::vector<std::unordered_set<std::string>> keys_;  // of each open object
};

}  // namespace

Json parse_json(std::string_view text, const std::string& file) {
  if (const auto bad = utf8_find_invalid(text)) {
    throw Error(ErrorCode::kBadFile, "invalid UTF-8 in JSON",
                {.file = file, .place = fmt::format("byte {}", *bad)});
  }
  // The library takes a NUL for the end of the text and would accept anything after it.
  if (const size_t nul = text.find('\0'); nul != std::string_view::npos) {
    throw Error(ErrorCode::kBadFile, "not valid JSON: a NUL",
                {.file = file, .place = fmt::format("byte {}", nul)});
  }
  Builder builder(file);
  const bool complete = Json::sax_parse(text.begin(), text.end(), &builder);
  SEPLLM_CHECK(complete);  // every fault has thrown
  return builder.take();
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
