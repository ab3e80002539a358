#include "server/http/http_message.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cctype>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <random>
#include <string>
#include <string_view>

#include "base/utf8.h"

namespace sepllm::server {
namespace {

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

bool equal_without_case(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](char x, char y) { return lower(x) == lower(y); });
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  const char l = lower(c);
  return l >= 'a' && l <= 'f' ? l - 'a' + 10 : -1;
}

}  // namespace

std::optional<std::string_view> HttpRequest::header(std::string_view name) const {
  for (const auto& [key, value] : headers) {
    if (equal_without_case(key, name)) return value;
  }
  return std::nullopt;
}

const char* reason_phrase(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 204:
      return "No Content";
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 403:
      return "Forbidden";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 408:
      return "Request Timeout";
    case 413:
      return "Content Too Large";
    case 415:
      return "Unsupported Media Type";
    case 429:
      return "Too Many Requests";
    case 431:
      return "Request Header Fields Too Large";
    case 500:
      return "Internal Server Error";
    case 501:
      return "Not Implemented";
    case 503:
      return "Service Unavailable";
    default:
      return "Unknown";
  }
}

std::optional<std::string> decode_path(std::string_view target) {
  std::string out;
  for (size_t k = 0; k < target.size(); ++k) {
    char c = target[k];
    if (c == '%') {
      if (target.size() - k < 3) return std::nullopt;
      const int high = hex_digit(target[k + 1]), low = hex_digit(target[k + 2]);
      if (high < 0 || low < 0) return std::nullopt;
      c = static_cast<char>(high * 16 + low);
      k += 2;
    }
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) return std::nullopt;
    out += c;
  }
  if (utf8_find_invalid(out)) return std::nullopt;
  return out;
}

std::optional<std::string> sane_request_id(std::string_view id) {
  constexpr size_t kLongest = 128;
  const bool harmless = std::all_of(id.begin(), id.end(), [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '-' || c == '_' || c == '.';
  });
  if (id.empty() || id.size() > kLongest || !harmless) return std::nullopt;
  return std::string(id);
}

std::string new_request_id() {
  static const uint64_t start = (uint64_t{std::random_device{}()} << 32) | std::random_device{}();
  static std::atomic<uint32_t> count{0};
  return fmt::format("req_{:016x}{:08x}", start, count++);
}

bool equal_in_constant_time(std::string_view secret, std::string_view given) {
  // Every byte of `given` is compared with some byte of the secret, whatever came before.
  size_t different = secret.size() ^ given.size();
  for (size_t k = 0; k < given.size(); ++k) {
    const char own = secret.empty() ? '\0' : secret[k % secret.size()];
    different |= static_cast<size_t>(static_cast<unsigned char>(own ^ given[k]));
  }
  return different == 0;
}

std::string_view without_authority(std::string_view target) {
  const size_t scheme = target.find("://");
  if (target.starts_with('/') || scheme == std::string_view::npos) return target;
  const size_t path = target.find('/', scheme + 3);
  return path == std::string_view::npos ? "/" : target.substr(path);
}

}  // namespace sepllm::server
