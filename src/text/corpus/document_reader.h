// Documents of text files, of JSON lines and of JSON arrays, packed or not, a block at a time: neither a file
// nor (where it may be cut) a document is in memory as a whole.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/function_ref.h"
#include "base/packed_file.h"
#include "text/corpus/input_form.h"
#include "text/corpus/json_array.h"

namespace sepllm {

// What becomes of a line that has no valid text: of JSON lines (or elements of an array) one that is no JSON,
// has no text, or a text that is no Unicode; of a text file one that is no UTF-8.
enum class OnBadLine {
  kError,
  kSkip,    // it is left out; a text file is not cut within documents then
  kReplace  // what is no character becomes U+FFFD; what this does not mend is left out
};

struct DocumentOptions {
  DocumentFormat format = DocumentFormat::kAuto;
  std::string json_key = "text";
  std::string split_on{};  // valid UTF-8, or empty
  // A long text may be cut before a line break that follows an ASCII letter
  // (Tokenizer::cuts_before_line_break).
  bool may_cut = false;
  OnBadLine on_bad_line = OnBadLine::kError;
};

// Whole JSON lines, or whole documents of a text file, or a part of one document.
struct TextBlock {
  std::string bytes{};
  std::string file{};
  InputForm form = InputForm::kText;  // kJsonArray: its elements, as JSON lines
  int64_t line = 1;                   // of the first byte; of an array the number of the element
  bool begins = true;                 // the first document begins here (text)
  bool ends = true;                   // the last document ends here (text)
};

// A document, or a part of it.
struct DocumentPart {
  std::string_view text;  // valid UTF-8; may be empty
  bool begins = true, ends = true;
};

// Lines that were not as they should be.
struct LineNotes {
  int64_t skipped = 0;   // left out
  int64_t replaced = 0;  // with U+FFFD in them now
  int64_t odd = 0;       // no JSON, though Python reads it (JsonOddities)
  std::string first_skipped{}, first_replaced{}, first_odd{};  // where, and what was wrong

  void add(const LineNotes& next);  // of what stands behind it in the input
};

class DocumentReader {
 public:
  DocumentReader(std::vector<std::string> files, DocumentOptions options);

  // Looks at the beginning of every file (but not of pipes): what next() would refuse there is an Error now,
  // and not after hours of work with the files before it.
  void check_files();

  const DocumentOptions& options() const { return options_; }
  // The next block, in order; false at the end. Error as PackedFileReader, input_form and JsonArrayLines, and
  // (kOutOfRange) for a line or a text of more than 1 GiB that cannot be cut.
  bool next(TextBlock* block);
  // Of all files as they lie on the disk.
  uint64_t bytes_read() const { return done_ + (reader_ ? reader_->bytes_read() : 0); }

 private:
  static constexpr size_t kBlock = size_t{1} << 18;  // bytes of content that a block has, more or less
  static constexpr size_t kMaxHeld = size_t{1} << 30;

  InputForm form_of(size_t file, std::string_view start);
  void open_next();
  bool read_more();
  size_t cut_line();
  size_t cut_text(bool* ends);
  void give(size_t end, bool ends, TextBlock* block);

  std::vector<std::string> files_;
  DocumentOptions options_;
  std::vector<std::optional<InputForm>> forms_;  // of the files, where they are known
  size_t next_file_ = 0;
  uint64_t done_ = 0;
  std::optional<PackedFileReader> reader_;  // of files_[next_file_ - 1]
  InputForm form_ = InputForm::kText;
  std::optional<JsonArrayLines> array_;
  std::string raw_;       // of an array: read, and not yet lines
  std::string held_;      // read and not yet given
  size_t searched_ = 0;   // of held_: without a place to cut
  size_t separated_ = 0;  // of held_: without a begin of split_on
  int64_t line_ = 1;
  bool begins_ = true;
};

// The documents of a block, in order, and what became of bad lines. Error (kBadFile) naming file and line,
// where options.on_bad_line says so.
LineNotes for_each_document(const TextBlock& block, const DocumentOptions& options,
                            FunctionRef<void(const DocumentPart&)> visit);

}  // namespace sepllm
