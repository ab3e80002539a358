#include "base/error.h"

#include <fmt/format.h>

#include "base/utf8.h"

namespace sepllm {
namespace {

constexpr size_t kMaxPart = 400;

// Text from the input must neither break the line nor flood the terminal.
std::string printable(std::string_view text) {
  std::string out;
  const std::string valid = utf8_sanitize(text.substr(0, kMaxPart));
  for (const unsigned char c : valid) {
    if (c < 0x20 || c == 0x7f) {
      out += fmt::format("\\x{:02x}", c);
    } else {
      out += static_cast<char>(c);
    }
  }
  if (text.size() > kMaxPart) out += "...";
  return out;
}

}  // namespace

Error::Error(ErrorCode code, const std::string& message, const ErrorDetail& detail) : code_(code) {
  if (!detail.file.empty()) what_ += printable(detail.file) + ": ";
  if (!detail.place.empty()) what_ += printable(detail.place) + ": ";
  what_ += printable(message);
  if (!detail.expected.empty() && !detail.got.empty()) {
    what_ += fmt::format(" (expected {}, got {})", printable(detail.expected), printable(detail.got));
  } else if (!detail.expected.empty()) {
    what_ += fmt::format(" (expected {})", printable(detail.expected));
  } else if (!detail.got.empty()) {
    what_ += fmt::format(" (got {})", printable(detail.got));
  }
  if (!detail.hint.empty()) what_ += "; " + printable(detail.hint);
}

}  // namespace sepllm
