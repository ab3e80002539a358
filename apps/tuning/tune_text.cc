#include "apps/tuning/tune_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <utility>

#include "apps/shell/common.h"
#include "base/error.h"

namespace sepllm {
namespace {

constexpr int64_t kLeast = 16, kUsual = 2048;

TunePieces pieces_of(const std::vector<int32_t>& ids, int64_t first, int64_t end, int64_t context,
                     int64_t n_tokens, const std::vector<int32_t>& start) {
  TunePieces out{.has_bos = !start.empty()};
  const int64_t n = std::clamp<int64_t>(n_tokens / context, 1, (end - first) / context);
  for (int64_t p = 0; p < n; ++p) {
    const int64_t at = first + (n == 1 ? 0 : p * (end - first - context) / (n - 1));
    std::vector<int32_t> piece = start;
    piece.insert(piece.end(), ids.begin() + at, ids.begin() + at + context - std::ssize(start));
    out.pieces.push_back(std::move(piece));
  }
  return out;
}

}  // namespace

TuneTexts cut_text(const Model& model, const TuneCut& cut) {
  std::vector<int32_t> ids;
  for (const std::string& file : cut.files) {
    const std::vector<int32_t> more = model.encode(read_text(file), "off");
    ids.insert(ids.end(), more.begin(), more.end());
  }
  std::vector<int32_t> start;
  if (cut.bos == "on" || (cut.bos == "auto" && model.tokenizer_or_error().adds_bos()))
    start.push_back(model.start_token());
  const int64_t half = std::ssize(ids) / 2;
  const int64_t limit = model.config().max_positions > 0 ? model.config().max_positions : INT64_MAX;
  TuneTexts out{.context = cut.context > 0 ? cut.context : std::min({limit, kUsual, half})};
  if (out.context > limit) {
    throw Error(ErrorCode::kInvalidArgument, "--context is beyond the model's position limit",
                {.expected = fmt::format("at most {}", limit), .got = std::to_string(out.context)});
  }
  if (out.context < kLeast || out.context > half) {
    throw Error(ErrorCode::kInvalidArgument, "the text is too short: each half must hold one piece",
                {.file = cut.files[0],
                 .expected = fmt::format("at least {} tokens", 2 * std::max(kLeast, out.context)),
                 .got = std::to_string(ids.size()),
                 .hint = "give more --text, or a smaller --context"});
  }
  out.search = pieces_of(ids, 0, half, out.context, cut.search_tokens, start);
  out.report = pieces_of(ids, half, std::ssize(ids), out.context, cut.report_tokens, start);
  for (const std::vector<int32_t>& piece : out.search.pieces) {
    out.has_specials =
        out.has_specials || std::any_of(piece.begin() + std::ssize(start), piece.end(),
                                        [&](int32_t id) { return model.tokenizer->is_special(id); });
  }
  return out;
}

}  // namespace sepllm
