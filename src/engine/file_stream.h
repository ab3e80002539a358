// The text of files as one stream of ids. Files are read and tokenised one after the other, when the ids are
// needed, so neither a text nor its ids are in memory as a whole.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/file.h"
#include "engine/model.h"
#include "engine/token_stream.h"

namespace sepllm {

struct TextInput {
  // files of text: each is tokenised separately, and their ids are joined with nothing between
  std::vector<std::string> texts{};
  std::string ids{};         // or a file of ids
  std::string bos = "auto";  // before the first text
  int64_t tokens = 0;        // at most this many text tokens; 0: all

  // Pipes and devices can be read only once.
  bool regular() const;
};

class FileStream : public TokenStream {
 public:
  // Reads the beginning, which decides has_bos(). Errors, here and later, name the file: missing, not UTF-8
  // (with the byte's place), no ids, ids outside the vocabulary. References are kept. A file that the
  // tokenizer cannot cut (Tokenizer::cuts_before_line_break) is read as a whole; of a pipe then at most 3
  // GiB.
  FileStream(const Model& model, const TextInput& input);

  std::span<const int32_t> peek(int64_t n) override;
  void take(int64_t n) override;

  // Whether the stream begins with a BOS that is not part of the text.
  bool has_bos() const { return has_bos_; }
  // The number of text tokens taken so far.
  int64_t taken() const { return taken_ - (has_bos_ && taken_ > 0 ? 1 : 0); }

 private:
  static constexpr size_t kBlock = size_t{1} << 18;  // bytes that are read at once

  bool read_more();  // false if no file is left
  bool open_next();
  void add_text(size_t end);
  void add_ids(size_t end);
  size_t cut() const;

  const Model& model_;
  const TextInput& input_;
  std::vector<std::string> files_;
  size_t next_file_ = 0;
  std::string file_;  // the open file
  std::optional<FileReader> reader_;
  bool regular_ = true;
  std::string held_;     // bytes that were read but not yet tokenised
  size_t searched_ = 0;  // bytes of held_ that are known to have no place to cut
  uint64_t done_ = 0;    // bytes (or ids) of the file before held_
  std::vector<int32_t> ids_;
  size_t begin_ = 0;  // the first of ids_ that has not been taken
  int64_t taken_ = 0;
  int64_t limit_ = INT64_MAX;
  bool has_bos_ = false;
};

// The number of text tokens of the input, at most input.tokens. Error if it has fewer than the input asks
// for, or too few to score. It is for a check before a long run, so only for regular() input.
int64_t count_tokens(const Model& model, const TextInput& input);
// The same checks after a run that has read the whole input.
void check_count(const TextInput& input, int64_t tokens, bool has_bos);

}  // namespace sepllm
