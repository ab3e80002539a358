// Documents of text files and of JSON lines, packed or not, a block at a time: neither a file nor (where it
// may be cut) a document is in memory as a whole.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/function_ref.h"
#include "base/packed_file.h"

namespace sepllm {

enum class DocumentFormat {
  kAuto,      // JSON lines where the name (without .gz, .zst) ends in .jsonl, .ndjson or .json
  kText,      // a document a file, or what lies between `split_on`
  kJsonLines  // an object a line, its text under `json_key`
};

struct DocumentOptions {
  DocumentFormat format = DocumentFormat::kAuto;
  std::string json_key = "text";
  std::string split_on{};  // valid UTF-8, or empty
  // A long text may be cut before a line break that follows an ASCII letter
  // (Tokenizer::cuts_before_line_break).
  bool may_cut = false;
};

// Whole JSON lines, or whole documents of a text file, or a part of one document.
struct TextBlock {
  std::string bytes{};
  std::string file{};
  bool is_json = false;
  int64_t line = 1;    // of the first byte
  bool begins = true;  // the first document begins here (text)
  bool ends = true;    // the last document ends here (text)
};

// A document, or a part of it.
struct DocumentPart {
  std::string_view text;  // valid UTF-8; may be empty
  bool begins = true, ends = true;
};

class DocumentReader {
 public:
  DocumentReader(std::vector<std::string> files, DocumentOptions options);

  const DocumentOptions& options() const { return options_; }
  // The next block, in order; false at the end. Error as PackedFileReader, and (kOutOfRange) for a line or a
  // text of more than 1 GiB that cannot be cut.
  bool next(TextBlock* block);
  // Of all files as they lie on the disk.
  uint64_t bytes_read() const { return done_ + (reader_ ? reader_->bytes_read() : 0); }

 private:
  static constexpr size_t kBlock = size_t{1} << 18;  // bytes of content that a block has, more or less
  static constexpr size_t kMaxHeld = size_t{1} << 30;

  void open_next();
  size_t cut_line();
  size_t cut_text(bool* ends);
  void give(size_t end, bool ends, TextBlock* block);

  std::vector<std::string> files_;
  DocumentOptions options_;
  size_t next_file_ = 0;
  uint64_t done_ = 0;
  std::optional<PackedFileReader> reader_;  // of files_[next_file_ - 1]
  bool is_json_ = false;
  std::string held_;      // read and not yet given
  size_t searched_ = 0;   // of held_: without a place to cut
  size_t separated_ = 0;  // of held_: without a begin of split_on
  int64_t line_ = 1;
  bool begins_ = true;
};

// The documents of a block, in order. Error (kBadFile) naming file and line: not JSON, no object, no such
// key, no string under it, not UTF-8.
void for_each_document(const TextBlock& block, const DocumentOptions& options,
                       FunctionRef<void(const DocumentPart&)> visit);

}  // namespace sepllm
