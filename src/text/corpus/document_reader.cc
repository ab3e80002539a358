#include "text/corpus/document_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "base/json.h"
#include "base/utf8.h"

namespace sepllm {
namespace {

bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

bool is_json_name(std::string_view name) {
  for (const std::string_view end : {".gz", ".zst"}) {
    if (name.ends_with(end)) name.remove_suffix(end.size());
  }
  return name.ends_with(".jsonl") || name.ends_with(".ndjson") || name.ends_with(".json");
}

int64_t line_breaks(std::string_view text) { return std::count(text.begin(), text.end(), '\n'); }

}  // namespace

DocumentReader::DocumentReader(std::vector<std::string> files, DocumentOptions options)
    : files_(std::move(files)), options_(std::move(options)) {}

void DocumentReader::open_next() {
  const std::string& file = files_[next_file_++];
  reader_.emplace(file);
  is_json_ = options_.format == DocumentFormat::kJsonLines ||
             (options_.format == DocumentFormat::kAuto && is_json_name(file));
  searched_ = separated_ = 0;
  line_ = 1;
  begins_ = true;
}

bool DocumentReader::next(TextBlock* block) {
  for (;;) {
    if (!reader_) {
      if (next_file_ == files_.size()) return false;
      open_next();
    }
    const bool at_end = reader_->append(&held_, kBlock) == 0;
    bool ends = true;
    const size_t end = at_end ? held_.size() : is_json_ ? cut_line() : cut_text(&ends);
    if (at_end) {
      done_ += reader_->bytes_read();
      reader_.reset();
    } else if (end == 0) {
      if (held_.size() <= kMaxHeld) continue;
      throw Error(ErrorCode::kOutOfRange, is_json_ ? "a line is too long" : "no place to cut the text",
                  {.file = files_[next_file_ - 1],
                   .place = fmt::format("line {}", line_),
                   .expected = fmt::format("at most {} bytes", kMaxHeld)});
    }
    if (end == 0 && begins_) continue;  // an empty end of a file
    give(end, ends, block);
    return true;
  }
}

size_t DocumentReader::cut_line() {
  const size_t last = std::string_view(held_).substr(searched_).rfind('\n');
  if (last == std::string_view::npos) {
    searched_ = held_.size();
    return 0;
  }
  return searched_ + last + 1;
}

// Behind the last separator that is held; else, of a text that has become long, at a place that neither a
// word nor a separator reaches over.
size_t DocumentReader::cut_text(bool* ends) {
  const std::string& mark = options_.split_on;
  size_t end = 0;
  for (size_t at = separated_; !mark.empty() && (at = held_.find(mark, at)) != std::string::npos;) {
    at += mark.size();
    end = at;
  }
  if (end > 0) return end;
  const size_t whole = mark.empty() ? held_.size() : held_.size() - std::min(held_.size(), mark.size() - 1);
  separated_ = whole;
  *ends = false;
  if (!options_.may_cut || held_.size() < kBlock) return 0;
  for (size_t at = std::min(whole + 1, held_.size()); at-- > std::max<size_t>(searched_, 1);) {
    if ((held_[at] == '\n' || held_[at] == '\r') && is_letter(held_[at - 1])) return at;
  }
  searched_ = whole;
  return 0;
}

void DocumentReader::give(size_t end, bool ends, TextBlock* block) {
  *block = {.bytes = held_.substr(0, end),
            .file = files_[next_file_ - 1],
            .is_json = is_json_,
            .line = line_,
            .begins = begins_,
            .ends = ends};
  held_.erase(0, end);
  searched_ = 0;
  separated_ = options_.split_on.empty()
                   ? held_.size()
                   : held_.size() - std::min(held_.size(), options_.split_on.size() - 1);
  line_ += line_breaks(block->bytes);
  begins_ = ends;
}

namespace {

std::string document_of(std::string_view line, const std::string& file, const std::string& key) {
  JsonOddities oddities;
  const Json value = parse_json(line, file, {}, &oddities);
  const JsonObject object(value, file);
  const auto it = value.find(key);
  if (it == value.end()) {
    std::string keys;
    for (const auto& [name, unused] : value.items()) keys += (keys.empty() ? "" : ", ") + name;
    throw Error(ErrorCode::kBadFile, "no key \"" + key + "\"",
                {.file = file, .got = keys.empty() ? "no keys" : keys, .hint = "--json-key names another"});
  }
  return object.string(key.c_str());
}

void for_each_line(const TextBlock& block, const std::string& key,
                   FunctionRef<void(const DocumentPart&)> visit) {
  const std::string_view bytes = block.bytes;
  int64_t number = block.line;
  for (size_t at = 0; at < bytes.size(); ++number) {
    const size_t end = std::min(bytes.find('\n', at), bytes.size());
    const std::string_view line = bytes.substr(at, end - at);
    at = end + 1;
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    const std::string document = document_of(line, fmt::format("{}: line {}", block.file, number), key);
    visit({document});
  }
}

}  // namespace

void for_each_document(const TextBlock& block, const DocumentOptions& options,
                       FunctionRef<void(const DocumentPart&)> visit) {
  if (block.is_json) return for_each_line(block, options.json_key, visit);
  std::string_view left = block.bytes;
  if (const auto bad = utf8_find_invalid(left)) {
    throw Error(ErrorCode::kBadFile, "invalid UTF-8",
                {.file = block.file, .place = line_and_byte(left, *bad, block.line)});
  }
  bool begins = block.begins;
  const std::string& mark = options.split_on;
  for (size_t end = 0; !mark.empty() && (end = left.find(mark)) != std::string_view::npos; begins = true) {
    visit({left.substr(0, end), begins, true});
    left.remove_prefix(end + mark.size());
  }
  // Behind the last separator of a block that ends with it there is no document.
  if (!left.empty() || !begins) visit({left, begins, block.ends});
}

}  // namespace sepllm
