#include "engine/file_stream.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "base/error.h"
#include "base/file_kind.h"
#include "base/log.h"
#include "base/utf8.h"
#include "text/token_ids.h"

namespace sepllm {
namespace {

constexpr size_t kMaxHeld = size_t{3} << 30;  // for a pipe

bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool is_blank(char c) { return c == ' ' || c == ',' || c == '\t' || c == '\r' || c == '\n'; }

}  // namespace

bool TextInput::regular() const {
  return ids.empty() ? std::all_of(texts.begin(), texts.end(), is_regular_file) : is_regular_file(ids);
}

FileStream::FileStream(const Model& model, const TextInput& input)
    : model_(model),
      input_(input),
      files_(input.ids.empty() ? input.texts : std::vector<std::string>{input.ids}) {
  if (input.ids.empty()) ids_ = model.encode("", input.bos);
  const std::span<const int32_t> first = peek(1);
  const std::optional<int32_t> bos = model.bos_id();
  has_bos_ = !first.empty() && bos && first[0] == *bos;
  if (input.tokens > 0 && input.tokens < INT64_MAX) limit_ = input.tokens + (has_bos_ ? 1 : 0);
}

std::span<const int32_t> FileStream::peek(int64_t n) {
  const auto wanted = static_cast<size_t>(std::min(n, limit_ - taken_));
  while (ids_.size() - begin_ < wanted && read_more()) {
  }
  return std::span<const int32_t>(ids_).subspan(begin_, std::min(wanted, ids_.size() - begin_));
}

void FileStream::take(int64_t n) {
  SEPLLM_CHECK(n >= 0 && static_cast<size_t>(n) <= ids_.size() - begin_);
  begin_ += static_cast<size_t>(n);
  taken_ += n;
}

bool FileStream::read_more() {
  if (!reader_ && !open_next()) return false;
  ids_.erase(ids_.begin(), ids_.begin() + static_cast<std::ptrdiff_t>(begin_));
  begin_ = 0;
  const bool at_end = reader_->append(&held_, kBlock) == 0;
  const size_t end = at_end ? held_.size() : cut();
  searched_ = at_end || end > 0 ? 0 : held_.size();
  if (input_.ids.empty()) {
    add_text(end);
  } else {
    add_ids(end);
  }
  held_.erase(0, end);
  if (at_end) reader_.reset();
  if (!regular_ && held_.size() > kMaxHeld) {
    throw Error(ErrorCode::kOutOfRange, "no place to cut the text",
                {.file = file_, .expected = fmt::format("a line break within {} bytes", kMaxHeld)});
  }
  return true;
}

bool FileStream::open_next() {
  if (next_file_ == files_.size()) return false;
  file_ = files_[next_file_++];
  reader_.emplace(file_);
  regular_ = is_regular_file(file_);
  done_ = 0;
  return true;
}

// The last place in held_ where it may be cut; 0 if there is none.
size_t FileStream::cut() const {
  if (!input_.ids.empty()) {
    const auto last = std::find_if(held_.rbegin(), held_.rend(), is_blank);
    // A "number" of this length is an error, which reading it will report.
    if (last == held_.rend()) return held_.size() > kBlock ? held_.size() : 0;
    return static_cast<size_t>(held_.rend() - last);
  }
  if (!model_.tokenizer_or_error().cuts_before_line_break()) return 0;
  for (size_t at = held_.size(); at-- > std::max<size_t>(searched_, 1);) {
    if ((held_[at] == '\n' || held_[at] == '\r') && is_letter(held_[at - 1])) return at;
  }
  return 0;
}

void FileStream::add_text(size_t end) {
  const std::string_view text = std::string_view(held_).substr(0, end);
  if (const auto bad = utf8_find_invalid(text)) {
    throw Error(ErrorCode::kInvalidArgument, "invalid UTF-8",
                {.file = file_,
                 .place = fmt::format("byte {}", done_ + *bad),
                 .got = done_ == 0 ? known_kind_name(text) : ""});
  }
  if (done_ == 0 && file_kind(text) == FileKind::kJson) {
    log_warning(file_ + ": looks like JSON and is read as plain text, with its keys and quotes");
  }
  if (!text.empty()) {
    const auto ids = model_.tokenizer_or_error().encode(text, {.continues = done_ > 0});
    ids_.insert(ids_.end(), ids.begin(), ids.end());
  }
  done_ += end;
}

void FileStream::add_ids(size_t end) {
  const auto ids = parse_ids(held_.substr(0, end), file_, static_cast<int64_t>(done_));
  check_ids(ids, model_.config().vocab_size, file_, static_cast<int64_t>(done_));
  ids_.insert(ids_.end(), ids.begin(), ids.end());
  done_ += ids.size();
}

void check_count(const TextInput& input, int64_t tokens, bool has_bos) {
  const std::string source = input.ids.empty() ? input.texts.front() : input.ids;
  const int64_t least = has_bos ? 1 : 2;
  if (tokens < least && (input.tokens == 0 || input.tokens >= least)) {
    throw Error(ErrorCode::kInvalidArgument, "too little text to score",
                {.file = source,
                 .expected = fmt::format("at least {} token{}", least, least == 1 ? "" : "s"),
                 .got = std::to_string(tokens)});
  }
  if (input.tokens == 0 || (tokens == input.tokens && tokens >= least)) return;
  throw Error(ErrorCode::kInvalidArgument, option_name("tokens") + " does not fit the text",
              {.file = source,
               .expected = tokens < input.tokens ? fmt::format("from {} to {}", least, tokens)
                                                 : fmt::format("at least {}", least),
               .got = std::to_string(input.tokens)});
}

int64_t count_tokens(const Model& model, const TextInput& input) {
  FileStream stream(model, input);
  constexpr int64_t kAtOnce = 65536;
  for (;;) {
    const auto n = static_cast<int64_t>(stream.peek(kAtOnce).size());
    if (n == 0) break;
    stream.take(n);
  }
  check_count(input, stream.taken(), stream.has_bos());
  return stream.taken();
}

}  // namespace sepllm
