#include "base/byte_alphabet.h"

#include <array>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "base/utf8.h"

namespace sepllm {
namespace {

constexpr char32_t kAlphabetEnd = 0x180;

std::array<char32_t, 256> build_alphabet() {
  std::array<char32_t, 256> chars{};
  char32_t next = 0x100;
  for (char32_t b = 0; b < 256; ++b) {
    const bool printable = (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xFF && b != 0xAD);
    chars[b] = printable ? b : next++;
  }
  return chars;
}

std::array<int, kAlphabetEnd> build_inverse() {
  std::array<int, kAlphabetEnd> bytes{};
  bytes.fill(-1);
  for (int b = 0; b < 256; ++b) bytes[byte_alphabet()[static_cast<size_t>(b)]] = b;
  return bytes;
}

}  // namespace

const std::array<char32_t, 256>& byte_alphabet() {
  static const std::array<char32_t, 256> alphabet = build_alphabet();
  return alphabet;
}

void append_byte_level(std::string& out, std::string_view bytes) {
  const auto& alphabet = byte_alphabet();
  for (const char b : bytes) utf8_append(out, alphabet[static_cast<unsigned char>(b)]);
}

std::optional<std::string> byte_level_bytes(std::string_view piece) {
  static const std::array<int, kAlphabetEnd> inverse = build_inverse();
  std::string bytes;
  int length = 0;
  for (size_t at = 0; at < piece.size(); at += static_cast<size_t>(length)) {
    const char32_t c = decode_valid_utf8(piece.data() + at, length);
    if (c >= kAlphabetEnd || inverse[c] < 0) return std::nullopt;
    bytes += static_cast<char>(inverse[c]);
  }
  return bytes;
}

}  // namespace sepllm
