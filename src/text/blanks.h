// Blanks: the Unicode property White_Space.
#pragma once

#include <string_view>

namespace sepllm {

bool is_blank(char32_t c);

// `text` without the blanks at both ends. Stops at invalid UTF-8.
std::string_view trim_blanks(std::string_view text);

}  // namespace sepllm
