// Characters of texts as in Python's str: code points, white space, letter case.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "text/template/limits.h"
#include "text/template/marked_text.h"

namespace sepllm::jinja {

// Byte offsets of the code points of valid UTF-8, and its size at the end.
std::vector<size_t> code_points(std::string_view text, Budget& budget);
int64_t count_code_points(std::string_view text, Budget& budget);
// The code point at a byte offset, and its length in bytes.
char32_t code_point_at(std::string_view text, size_t at, size_t& length);

// str.isspace(), and what str.strip() and \s of regular expressions mean by white space.
bool is_space(char32_t c);
bool is_alpha(char32_t c);      // str.isalpha()
bool is_decimal(char32_t c);    // str.isdecimal()
bool is_digit(char32_t c);      // str.isdigit()
bool is_numeric(char32_t c);    // a digit, number or fraction that is no letter
bool is_printable(char32_t c);  // str.isprintable()

// [begin, end) of `text` without white space at its ends, or without the given characters.
struct Stripped {
  size_t begin, end;
};
enum class Sides { kBoth, kLeft, kRight };
Stripped strip(std::string_view text, Sides sides, Budget& budget);
Stripped strip(std::string_view text, std::string_view characters, Sides sides, Budget& budget);

// Python's str.upper(), lower(), title(), capitalize(); a changed character keeps its origin.
enum class LetterCase { kUpper, kLower, kTitle, kCapitalized };
MarkedText with_case(const MarkedText& text, LetterCase letter_case, Budget& budget);

}  // namespace sepllm::jinja
