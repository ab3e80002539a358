#include "text/corpus/document_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "base/file_kind.h"
#include "base/json.h"
#include "base/utf8.h"

namespace sepllm {
namespace {

bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

int64_t line_breaks(std::string_view text) { return std::count(text.begin(), text.end(), '\n'); }

const char* unit_of(InputForm form) { return form == InputForm::kJsonArray ? "element" : "line"; }

// The beginning of a file's content, long enough to tell its kind; it may be longer.
std::string start_of(PackedFileReader* reader, size_t block) {
  std::string start;
  while (start.size() < kFileKindBytes && reader->append(&start, block) > 0) {
  }
  return start;
}

}  // namespace

DocumentReader::DocumentReader(std::vector<std::string> files, DocumentOptions options)
    : files_(std::move(files)), options_(std::move(options)), forms_(files_.size()) {
  // A line that is left out may be the one before or after a cut.
  if (options_.on_bad_line == OnBadLine::kSkip) options_.may_cut = false;
}

// The form is determined only once, because that may log a warning.
InputForm DocumentReader::form_of(size_t file, std::string_view start) {
  if (!forms_[file]) forms_[file] = input_form(files_[file], start, options_.format);
  return *forms_[file];
}

void DocumentReader::check_files() {
  for (size_t f = 0; f < files_.size(); ++f) {
    if (file_exists(files_[f]) && !is_regular_file(files_[f]) && !is_folder(files_[f])) continue;
    PackedFileReader reader(files_[f]);
    form_of(f, start_of(&reader, kFileKindBytes));
  }
}

void DocumentReader::open_next() {
  const std::string& file = files_[next_file_];
  reader_.emplace(file);
  held_ = start_of(&*reader_, kBlock);
  form_ = form_of(next_file_++, held_);
  array_.reset();
  if (form_ == InputForm::kJsonArray) {
    array_.emplace(file);
    raw_ = held_.substr(held_.starts_with("\xef\xbb\xbf") ? 3 : 0);
    held_.clear();
    array_->feed(raw_, &held_);
  }
  searched_ = separated_ = 0;
  line_ = 1;
  begins_ = true;
}

// Appends more content to held_; false at the end of the file.
bool DocumentReader::read_more() {
  if (!array_) return reader_->append(&held_, kBlock) > 0;
  raw_.clear();
  if (reader_->append(&raw_, kBlock) == 0) {
    array_->finish();
    return false;
  }
  array_->feed(raw_, &held_);
  return true;
}

bool DocumentReader::next(TextBlock* block) {
  for (;;) {
    if (!reader_) {
      if (next_file_ == files_.size()) return false;
      open_next();
    }
    const bool at_end = !read_more();
    bool ends = true;
    const size_t end = at_end ? held_.size() : form_ == InputForm::kText ? cut_text(&ends) : cut_line();
    if (at_end) {
      done_ += reader_->bytes_read();
      reader_.reset();
    } else if (end == 0) {
      if (held_.size() <= kMaxHeld) continue;
      throw Error(ErrorCode::kOutOfRange,
                  form_ == InputForm::kText ? "no place to cut the text"
                                            : fmt::format("the {} is too long", unit_of(form_)),
                  {.file = files_[next_file_ - 1],
                   .place = fmt::format("{} {}", unit_of(form_), line_),
                   .expected = fmt::format("at most {} bytes", kMaxHeld)});
    }
    if (end == 0 && begins_) continue;  // nothing is left at the end of the file
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

// Cuts after the last separator in held_; or, if the text has become long, at a place that neither a word nor
// a separator crosses.
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
            .form = form_,
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

}  // namespace sepllm
