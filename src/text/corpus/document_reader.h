// Reads documents from text files, JSON lines and JSON arrays, packed or not, one block at a time: neither a
// file nor (where it may be cut) a document is in memory as a whole.
#pragma once

#include <cstddef>
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

// What happens to a line without a valid text. In JSON lines (or elements of an array): one that is not JSON,
// has no text, or whose text is not valid Unicode. In a text file: one that is not UTF-8.
enum class OnBadLine {
  kError,
  kSkip,    // it is left out; a text file is then not cut within documents
  kReplace  // invalid characters become U+FFFD; a line that this does not mend is left out
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

// Whole JSON lines, whole documents of a text file, or a part of one document.
struct TextBlock {
  std::string bytes{};
  std::string file{};
  InputForm form = InputForm::kText;  // for kJsonArray: its elements, as JSON lines
  int64_t line = 1;                   // the line of the first byte; for an array the number of the element
  bool begins = true;                 // the first document begins here (text)
  bool ends = true;                   // the last document ends here (text)
};

// A document or a part of it.
struct DocumentPart {
  std::string_view text;  // valid UTF-8; may be empty
  bool begins = true, ends = true;
};

// What was wrong with lines.
struct LineNotes {
  int64_t skipped = 0;   // lines that were left out
  int64_t replaced = 0;  // lines that now have U+FFFD in them
  int64_t odd = 0;       // lines that are not JSON, although Python reads them (JsonOddities)
  std::string first_skipped{}, first_replaced{}, first_odd{};  // place and fault

  void add(const LineNotes& next);  // `next` comes after this in the input
};

class DocumentReader {
 public:
  DocumentReader(std::vector<std::string> files, DocumentOptions options);

  // Looks at the beginning of every file (except pipes), so that a file that next() would refuse is an Error
  // now, and not after hours of work with the files before it.
  void check_files();

  const DocumentOptions& options() const { return options_; }
  // Reads the next block, in order; false at the end. Error as for PackedFileReader, input_form and
  // JsonArrayLines, and (kOutOfRange) for a line or a text of more than 1 GiB that cannot be cut.
  bool next(TextBlock* block);
  // Bytes read from all files as they lie on the disk.
  uint64_t bytes_read() const { return done_ + (reader_ ? reader_->bytes_read() : 0); }

 private:
  static constexpr size_t kBlock = size_t{1} << 18;  // approximate number of content bytes in a block
  static constexpr size_t kMaxHeld = size_t{1} << 30;

  InputForm form_of(size_t file, std::string_view start);
  void open_next();
  bool read_more();
  size_t cut_line();
  size_t cut_text(bool* ends);
  void give(size_t end, bool ends, TextBlock* block);

  std::vector<std::string> files_;
  DocumentOptions options_;
  std::vector<std::optional<InputForm>> forms_;  // by file, where they are known
  size_t next_file_ = 0;
  uint64_t done_ = 0;
  std::optional<PackedFileReader> reader_;  // reads files_[next_file_ - 1]
  InputForm form_ = InputForm::kText;
  std::optional<JsonArrayLines> array_;
  std::string raw_;       // only for an array: bytes that were read but are not yet lines
  std::string held_;      // bytes that were read but not yet given out
  size_t searched_ = 0;   // bytes of held_ that are known to have no place to cut
  size_t separated_ = 0;  // bytes of held_ that are known to have no beginning of split_on
  int64_t line_ = 1;
  bool begins_ = true;
};

// Calls the function for each document of a block, in order, and returns what was wrong with lines. Error
// (kBadFile) naming file and line, if options.on_bad_line says so.
LineNotes for_each_document(const TextBlock& block, const DocumentOptions& options,
                            FunctionRef<void(const DocumentPart&)> visit);

}  // namespace sepllm
