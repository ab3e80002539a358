// Blanks are the characters with the Unicode property White_Space.
#pragma once

#include <string_view>

namespace sepllm {

bool is_blank(char32_t c);

// `text` without the blanks at both ends. Invalid UTF-8 ends the search for blanks.
std::string_view trim_blanks(std::string_view text);

}  // namespace sepllm
