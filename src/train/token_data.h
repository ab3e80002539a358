// Training samples from one or several token files: which tokens come when, as a function of the seed and of
// a small state that a checkpoint keeps.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "train/token_file.h"

namespace sepllm {

// A part of [0, n) in an order that looks random: a bijection of [0, n) for each key. n >= 1.
int64_t permuted(uint64_t key, int64_t i, int64_t n);

struct TokenSource {
  std::string prefix;
  double weight = 1;  // of its samples among all, > 0
};

struct SampleRange {
  double begin = 0, end = 1;  // shares of each file's samples: for a held-out part
};

// One training sample: seq_length + 1 tokens, each predicted from those before.
struct Sample {
  std::vector<int32_t> tokens;
  std::vector<int64_t> document_starts;  // of the first seq_length tokens, the first is 0
  int64_t source = 0, first = 0;         // where it comes from: which of the sources, its first token there
};

// Samples are the pieces of seq_length tokens of a file (and one token more, the last target), documents
// packed one after the other. Each pass over a file shuffles them anew; several files take turns so that
// their shares follow the weights at every point.
class TokenData {
 public:
  // Error as TokenFile; (kInvalidArgument) for weights that are not positive numbers, and where a file has no
  // sample in the range.
  TokenData(const std::vector<TokenSource>& sources, int64_t seq_length, int64_t vocab_size, uint64_t seed,
            SampleRange range = {});

  // How many samples of each file have been given out: all that there is to the position.
  using Position = std::vector<int64_t>;
  const Position& position() const { return used_; }
  void set_position(const Position& position);  // Error (kBadFile) for another number of files

  // The next sample; `sample` is reused. Error (kBadFile) for ids outside the vocabulary.
  void next(Sample* sample);
  // Passes over what would have been the next sample (another rank's).
  void skip();

  int64_t n_files() const { return static_cast<int64_t>(files_.size()); }
  const TokenFile& file(int64_t f) const { return files_[static_cast<size_t>(f)]->tokens; }
  int64_t n_samples() const;  // of one pass over every file
  uint64_t fingerprint() const { return fingerprint_; }
  // Of each file, by the order of the sources: TokenFile::content_hash().
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
