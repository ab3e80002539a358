// GPT-2's alphabet, which has a printable character for each byte. Byte-level tokenizers write their pieces
// in it.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>

namespace sepllm {

// The character (below U+0180) of each byte: printable Latin-1 characters stand for themselves; the others
// get U+0100 and following, in order.
const std::array<char32_t, 256>& byte_alphabet();

// Appends `bytes`, written in the alphabet, to `out`.
void append_byte_level(std::string& out, std::string_view bytes);

// The bytes that `piece` stands for; nullopt if a character is not of the alphabet. `piece`: valid UTF-8.
std::optional<std::string> byte_level_bytes(std::string_view piece);

}  // namespace sepllm
