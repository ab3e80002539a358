#include "text/token_ids.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <string>
#include <system_error>
#include <vector>

#include "base/error.h"

namespace sepllm {

void check_ids(const std::vector<int32_t>& ids, int64_t vocab_size, const std::string& source,
               int64_t first) {
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] >= 0 && ids[i] < vocab_size) continue;
    throw Error(ErrorCode::kOutOfRange, "token id outside the vocabulary",
                {.file = source,
                 .place = fmt::format("position {}", first + static_cast<int64_t>(i)),
                 .expected = fmt::format("an id from 0 to {}", vocab_size - 1),
                 .got = std::to_string(ids[i])});
  }
}

std::vector<int32_t> parse_ids(const std::string& text, const std::string& source, int64_t first) {
  const std::string blanks = ", \t\r\n";
  std::vector<int32_t> ids;
  size_t at = text.find_first_not_of(blanks);
  while (at != std::string::npos) {
    const size_t end = std::min(text.find_first_of(blanks, at), text.size());
    int32_t id = 0;
    const auto [stop, code] = std::from_chars(text.data() + at, text.data() + end, id);
    if (code != std::errc() || stop != text.data() + end) {
      throw Error(ErrorCode::kInvalidArgument, "not a token id",
                  {.file = source,
                   .place = fmt::format("position {}", first + static_cast<int64_t>(ids.size())),
                   .expected = "integers separated by commas or blanks",
                   .got = "'" + text.substr(at, end - at) + "'"});
    }
    ids.push_back(id);
    at = text.find_first_not_of(blanks, end);
  }
  return ids;
}

}  // namespace sepllm
