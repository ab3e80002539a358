// Training samples from one or several token files. Which tokens come when is a function of the seed and of a
// small state that a checkpoint keeps.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "train/token_file.h"

namespace sepllm {

// Position i of [0, n) in an order that looks random: a bijection of [0, n) for each key. n >= 1.
int64_t permuted(uint64_t key, int64_t i, int64_t n);

struct TokenSource {
  std::string prefix;
  double weight = 1;  // the share of its samples among all, relative to the other files; > 0
};

struct SampleRange {
  double begin = 0, end = 1;  // range of each file's samples, as shares: for a held-out part
};

// One training sample: seq_length + 1 tokens; each is predicted from those before it.
struct Sample {
  std::vector<int32_t> tokens;
  // where documents begin in the first seq_length tokens; the first entry is 0
  std::vector<int64_t> document_starts;
  // where it comes from: the index of the source, and its first token there
  int64_t source = 0, first = 0;
};

// A sample is a piece of seq_length tokens of a file (and one more token, the last target), with documents
// packed one after the other. Each pass over a file shuffles its samples anew; several files take turns so
// that their shares follow the weights at every point.
class TokenData {
 public:
  // Error as for TokenFile; (kInvalidArgument) for weights that are not positive numbers, and if a file has
  // no sample in the range.
  TokenData(const std::vector<TokenSource>& sources, int64_t seq_length, int64_t vocab_size, uint64_t seed,
            SampleRange range = {});

  // How many samples of each file have been given out: this is the whole position.
  using Position = std::vector<int64_t>;
  const Position& position() const { return used_; }
  void set_position(const Position& position);  // Error (kBadFile) for another number of files

  // The next sample; `sample` is reused. Error (kBadFile) for ids outside the vocabulary.
  void next(Sample* sample);
  // Skips what would have been the next sample (it belongs to another rank).
  void skip();

  int64_t n_files() const { return static_cast<int64_t>(files_.size()); }
  const TokenFile& file(int64_t f) const { return files_[static_cast<size_t>(f)]->tokens; }
  int64_t n_samples() const;  // in one pass over every file
  uint64_t fingerprint() const { return fingerprint_; }
  // TokenFile::content_hash() of each file, in the order of the sources.
  std::vector<uint64_t> content_hashes() const;

 private:
  struct File {
    TokenFile tokens;
    double weight;
    int64_t first, count;  // its samples
  };
  size_t choose() const;  // the file whose turn it is

  std::vector<std::unique_ptr<File>> files_;
  int64_t seq_length_, vocab_size_;
  uint64_t seed_;
  Position used_;
  uint64_t fingerprint_ = 0;
};

}  // namespace sepllm
