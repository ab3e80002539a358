// `sepllm prepare --train-tokenizer bpe`: a tokenizer from text.
#pragma once

#include <cstdint>
#include <string>

#include "text/corpus/bpe_trainer.h"
#include "text/corpus/document_reader.h"

namespace sepllm {

// The unit in which progress over files is shown.
inline constexpr int64_t kMegabyte = 1'000'000;

struct TokenizerTraining {
  std::vector<std::string> input;
  DocumentOptions documents;
  BpeTrainOptions bpe;
  std::string out;  // folder
  int n_threads = 1;
  bool json = false;
};

// Trains, writes the folder whole or not at all, and prints what it did.
void train_tokenizer(const TokenizerTraining& training);

// Of the files, on the disk, in units of 10^6 bytes; 0: not known.
int64_t total_megabytes(const std::vector<std::string>& files);

}  // namespace sepllm
