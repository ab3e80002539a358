// Where the separators of a real text lie: positions for measuring attention without text, tokenizer or
// model. Made by make_separators.py from the first 131,072 GPT-NeoX tokens of a book (PG19).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace sepllm::bench {

// The number of tokens whose separators are known.
inline constexpr int64_t kBookTokens = 128 * 1024;

// Positions below `n_tokens` of the book's separators, ascending, by the rule "paper" (the nine ids that the
// paper trains GPT-NeoX models with) or "text" (docs/METHOD.md#separators). Error (kInvalidArgument) for
// another rule, (kOutOfRange) for more tokens than known.
std::vector<int64_t> book_separators(const std::string& rule, int64_t n_tokens);

}  // namespace sepllm::bench
