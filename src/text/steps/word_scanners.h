// Hand-written forms of the few splitting patterns that most tokenizers use: an order of magnitude faster
// than a regex engine, linear in the text, and tested against the patterns themselves.
#pragma once

#include <cstddef>
#include <string_view>

namespace sepllm {

// Both functions return the end of the word that starts at `at` < text.size(), in valid UTF-8; words tile the
// text.

// 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
size_t gpt2_word_end(std::string_view text, size_t at);

// (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|
// \s+(?!\S)|\s+ ; with `max_digits` in place of 3.
size_t llama3_word_end(std::string_view text, size_t at, int max_digits);

// The scanner that is equal to the regular expression `pattern`, or nullptr.
using WordScanner = size_t (*)(std::string_view text, size_t at);
WordScanner find_word_scanner(std::string_view pattern);

extern const char* const kGpt2Pattern;
extern const char* const kLlama3Pattern;

}  // namespace sepllm
