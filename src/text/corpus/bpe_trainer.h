// Training of a byte-level BPE: which neighbours to join, most frequent ones first.
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
  int64_t vocab_size = 0;     // with special tokens and the 256 bytes
  int64_t min_frequency = 2;  // pairs that occur less often are not joined
  std::vector<std::string> specials = {"<|endoftext|>"};
};

struct TrainedBpe {
  std::vector<std::string> pieces;                  // by id, in the byte alphabet: specials, bytes, merges
  std::vector<std::pair<int32_t, int32_t>> merges;  // of ids, first ones first
  std::vector<std::string> specials;
};

// The merges that the `tokenizers` library's trainer finds: of the pairs that occur most often the one with
// the lowest ids is joined next. The result depends on the words and their counts only, and has fewer tokens
// than asked for where no pair is left. `go_on` is called now and then; false: Error "interrupted".
// Error (kInvalidArgument) for a vocabulary too small for the bytes and specials, or too large for 31 bits,
// and for specials that are empty, twice there or not UTF-8.
TrainedBpe train_bpe(std::span<const CountedWord> words, const BpeTrainOptions& options,
                     FunctionRef<bool(int64_t n_pieces)> go_on);

// The content of tokenizer.json and tokenizer_config.json. The first special, if any, ends and begins texts.
std::string tokenizer_json_of(const TrainedBpe& bpe);
std::string tokenizer_config_json_of(const TrainedBpe& bpe);

}  // namespace sepllm
