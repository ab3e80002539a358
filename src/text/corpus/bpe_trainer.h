// Trains a byte-level BPE: decides which neighbours to join, the most frequent ones first.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/function_ref.h"
#include "text/corpus/word_counter.h"

namespace sepllm {

struct BpeTrainOptions {
  int64_t vocab_size = 0;     // includes special tokens and the 256 bytes
  int64_t min_frequency = 2;  // pairs that occur less often are not joined
  std::vector<std::string> specials = {"<|endoftext|>"};
};

struct TrainedBpe {
  std::vector<std::string> pieces;                  // by id, in the byte alphabet: specials, bytes, merges
  std::vector<std::pair<int32_t, int32_t>> merges;  // pairs of ids, in the order of merging
  std::vector<std::string> specials;
};

// Finds the same merges as the `tokenizers` library's trainer: of the pairs that occur most often, the one
// with the lowest ids is joined next. The result depends only on the words and their counts, and has fewer
// tokens than asked for if no pair is left. `go_on` is called now and then; if it returns false, an Error
// "interrupted" is thrown. Error (kInvalidArgument) for a vocabulary too small for the bytes and specials, or
// too large for 31 bits, and for specials that are empty, given twice or not UTF-8.
TrainedBpe train_bpe(std::span<const CountedWord> words, const BpeTrainOptions& options,
                     FunctionRef<bool(int64_t n_pieces)> go_on);

// The content of tokenizer.json and tokenizer_config.json. The first special, if any, both begins and ends
// texts.
std::string tokenizer_json_of(const TrainedBpe& bpe);
std::string tokenizer_config_json_of(const TrainedBpe& bpe);

}  // namespace sepllm
