// Token ids written as text.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace sepllm {

// Error (kOutOfRange) naming the first id outside [0, vocab_size), its place and `source` (a flag or file).
// `first`: the place of ids[0].
void check_ids(const std::vector<int32_t>& ids, int64_t vocab_size, const std::string& source,
               int64_t first = 0);
// Parses integers separated by commas, blanks or newlines. Error naming `source` and the place (`first`: the
// place of the first integer).
std::vector<int32_t> parse_ids(const std::string& text, const std::string& source, int64_t first = 0);

}  // namespace sepllm
