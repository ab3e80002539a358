#include "base/error.h"

#include <fmt/format.h>

#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "base/utf8.h"

namespace sepllm {
namespace {

constexpr size_t kMaxPart = 400;
// The marks around an option's name in a message. (Input text that has such marks around an option's name
// would be read as an option.)
constexpr char kBegin = '\x0e';
constexpr char kEnd = '\x0f';

bool is_name(std::string_view text) {
  constexpr std::string_view kLetters = "abcdefghijklmnopqrstuvwxyz0123456789-_";
  return !text.empty() && text.size() <= 40 && text.find_first_not_of(kLetters) == std::string_view::npos;
}

// The name between marks at the beginning of `text`, if there is one.
std::optional<std::string_view> option_at(std::string_view text) {
  const size_t end = text.empty() || text[0] != kBegin ? std::string_view::npos : text.find(kEnd);
  if (end == std::string_view::npos || !is_name(text.substr(1, end - 1))) return std::nullopt;
  return text.substr(1, end - 1);
}

// Escapes and shortens text from the input, so that it can neither break the line nor flood the terminal.
std::string printable(std::string_view text) {
  std::string out;
  const std::string valid = utf8_sanitize(text.substr(0, kMaxPart));
  for (size_t k = 0; k < valid.size(); ++k) {
    const auto c = static_cast<unsigned char>(valid[k]);
    if (const auto option = option_at(std::string_view(valid).substr(k))) {
      out += option_name(std::string(*option));
      k += option->size() + 1;
    } else if (c < 0x20 || c == 0x7f) {
      out += fmt::format("\\x{:02x}", c);
    } else {
      out += static_cast<char>(c);
    }
  }
  if (text.size() > kMaxPart) out += "...";
  return out;
}

}  // namespace

std::string option_name(const std::string& name) { return kBegin + name + kEnd; }

std::string write_options(std::string_view marked,
                          const std::function<std::string(const std::string&)>& write) {
  std::string out;
  for (size_t k = 0; k < marked.size(); ++k) {
    if (const auto option = option_at(marked.substr(k))) {
      out += write(std::string(*option));
      k += option->size() + 1;
    } else {
      out += marked[k];
    }
  }
  return out;
}

Error::Error(ErrorCode code, const std::string& message, const ErrorDetail& detail) : code_(code) {
  if (!detail.file.empty()) marked_ += printable(detail.file) + ": ";
  if (!detail.place.empty()) marked_ += printable(detail.place) + ": ";
  marked_ += printable(message);
  const size_t begin = marked_.find(kBegin);
  if (begin != std::string::npos) option_ = *option_at(std::string_view(marked_).substr(begin));
  if (!detail.expected.empty() && !detail.got.empty()) {
    marked_ += fmt::format(" (expected {}, got {})", printable(detail.expected), printable(detail.got));
  } else if (!detail.expected.empty()) {
    marked_ += fmt::format(" (expected {})", printable(detail.expected));
  } else if (!detail.got.empty()) {
    marked_ += fmt::format(" (got {})", printable(detail.got));
  }
  if (!detail.hint.empty()) marked_ += "; " + printable(detail.hint);
  what_ = write_options(marked_, [](const std::string& name) { return name; });
}

}  // namespace sepllm
