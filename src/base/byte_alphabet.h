// GPT-2's alphabet: a printable character for each byte, in which byte-level tokenizers write their pieces.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>

namespace sepllm {

// The character (below U+0180) of each byte: itself for printable Latin-1, else U+0100 on, in order.
const std::array<char32_t, 256>& byte_alphabet();

// `bytes` written in the alphabet, appended to `out`.
void append_byte_level(std::string& out, std::string_view bytes);

// The bytes that `piece` stands for; nullopt if a character is not of the alphabet. `piece`: valid UTF-8.
std::optional<std::string> byte_level_bytes(std::string_view piece);

}  // namespace sepllm
