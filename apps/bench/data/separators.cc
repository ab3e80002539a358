#include "apps/bench/data/separators.h"

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace sepllm::bench {
namespace {

// Four tokens per digit; the first one is the highest bit.
constexpr std::string_view kPaper =
#include "apps/bench/data/pg19_paper.inc"
    ;
constexpr std::string_view kText =
#include "apps/bench/data/pg19_text.inc"
    ;
static_assert(4 * kPaper.size() == kBookTokens && 4 * kText.size() == kBookTokens);

int value_of(char digit) { return digit <= '9' ? digit - '0' : digit - 'a' + 10; }

}  // namespace

std::vector<int64_t> book_separators(const std::string& rule, int64_t n_tokens) {
  if (rule != "paper" && rule != "text") {
    throw Error(ErrorCode::kInvalidArgument, "no separators of the book by this rule",
                {.place = "--separators", .expected = "paper or text", .got = "'" + rule + "'"});
  }
  if (n_tokens < 0 || n_tokens > kBookTokens) {
    throw Error(ErrorCode::kOutOfRange, "more tokens than the book of the benchmark has",
                {.expected = "at most " + std::to_string(kBookTokens),
                 .got = std::to_string(n_tokens),
                 .hint = "give a longer text: --text FILE --tokenizer FILE"});
  }
  const std::string_view digits = rule == "paper" ? kPaper : kText;
  std::vector<int64_t> out;
  for (int64_t j = 0; j < n_tokens; ++j) {
    const int bits = value_of(digits[static_cast<size_t>(j / 4)]);
    if ((bits >> (3 - j % 4) & 1) != 0) out.push_back(j);
  }
  return out;
}

}  // namespace sepllm::bench
