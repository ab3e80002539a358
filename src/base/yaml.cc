#include "base/yaml.h"

#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <system_error>

#include "base/error.h"
#include "base/options.h"
#include "base/utf8.h"

namespace sepllm {
namespace {

constexpr size_t kMostBytes = size_t{1} << 20;
constexpr int kDeepest = 64;
constexpr int64_t kMostNodes = 1'000'000;

// The place of a mark of the library, which counts from 0.
std::string place(const YAML::Mark& mark) {
  return fmt::format("line {}, column {}", mark.line + 1, mark.column + 1);
}

Json scalar(const YAML::Node& node) {
  const std::string& text = node.Scalar();
  if (node.Tag() == "!") return text;  // quoted
  if (text == "null" || text == "~" || text.empty()) return nullptr;
  if (text == "true") return true;
  if (text == "false") return false;
  if (const auto integer = parse_integer(text)) return *integer;
  double number = 0;
  const char* end = text.data() + text.size();
  const auto [stop, code] = std::from_chars(text.data() + (text[0] == '+' ? 1 : 0), end, number);
  if (code == std::errc() && stop == end && std::isfinite(number)) return number;
  return text;
}

class Converter {
 public:
  explicit Converter(const std::string& file) : file_(file) {}

  Json convert(const YAML::Node& node, int depth) {
    if (depth > kDeepest) refuse(node, "nested deeper than 64");
    if (++n_nodes_ > kMostNodes) refuse(node, "too many values (aliases that multiply?)");
    switch (node.Type()) {
      case YAML::NodeType::Scalar:
        if (node.Scalar().find('\0') != std::string::npos) refuse(node, "a NUL character in a value");
        return scalar(node);
      case YAML::NodeType::Sequence: {
        Json out = Json::array();
        for (const auto& item : node) out.push_back(convert(item, depth + 1));
        return out;
      }
      case YAML::NodeType::Map: {
        Json out = Json::object();
        for (const auto& member : node) {
          if (!member.first.IsScalar()) refuse(member.first, "a key that is not a plain word");
          const std::string& key = member.first.Scalar();
          if (out.contains(key)) refuse(member.first, fmt::format("the key '{}' comes twice", key));
          out[key] = convert(member.second, depth + 1);
        }
        return out;
      }
      default:
        return nullptr;
    }
  }

 private:
  [[noreturn]] void refuse(const YAML::Node& node, const std::string& message) const {
    throw Error(ErrorCode::kBadFile, message, {.file = file_, .place = place(node.Mark())});
  }

  const std::string& file_;
  int64_t n_nodes_ = 0;
};

}  // namespace

Json parse_yaml(const std::string& text, const std::string& file) {
  if (text.size() > kMostBytes) {
    throw Error(ErrorCode::kInvalidArgument, "too large for settings",
                {.file = file, .expected = "at most 1 MiB", .got = fmt::format("{} bytes", text.size())});
  }
  if (const auto bad = utf8_find_invalid(text)) {
    throw Error(ErrorCode::kBadFile, "invalid UTF-8", {.file = file, .place = line_and_byte(text, *bad)});
  }
  // The library recurses on brackets while it parses, so deep nesting is refused before the stack ends.
  int depth = 0;
  for (const char c : text) {
    depth += c == '[' || c == '{' ? 1 : c == ']' || c == '}' ? -1 : 0;
    if (depth > 10 * kDeepest) throw Error(ErrorCode::kBadFile, "nested deeper than 64", {.file = file});
  }
  try {
    return Converter(file).convert(YAML::Load(text), 0);
  } catch (const YAML::Exception& e) {
    throw Error(ErrorCode::kBadFile, "not valid YAML: " + e.msg, {.file = file, .place = place(e.mark)});
  }
}

}  // namespace sepllm
