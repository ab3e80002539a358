// `sepllm prepare --train-tokenizer bpe`: trains a tokenizer on text.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "text/corpus/bpe_trainer.h"
#include "text/corpus/document_reader.h"

namespace sepllm {

// The unit of progress over files.
inline constexpr int64_t kMegabyte = 1'000'000;

struct TokenizerTraining {
  std::vector<std::string> input;
  DocumentOptions documents;
  BpeTrainOptions bpe;
  std::string out;  // the folder
  int n_threads = 1;
  bool json = false;
};

// Trains, writes the folder completely or not at all, and prints what it did.
void train_tokenizer(const TokenizerTraining& training);

// The size of the files on the disk, in units of 10^6 bytes; 0: not known.
int64_t total_megabytes(const std::vector<std::string>& files);

}  // namespace sepllm
