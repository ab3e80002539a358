// Combines the tokens of a tokenizer's own file and those that the files next to it name into one list, in
// the same way for every form of tokenizer.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/formats/tokenizer_config.h"
#include "text/steps/added_tokens.h"

namespace sepllm {

// The vocabulary of a tokenizer without its added tokens.
struct BaseVocabulary {
  std::function<int32_t(std::string_view)> find;  // id of a piece by its exact text, or -1
  std::function<bool(int32_t)> has;               // whether there is a piece with this id
  int64_t size = 0;                               // one more than the largest id
  // If true, the added tokens of its own file are placeholders: a token that a file names with such an id
  // replaces it (reserved tokens of Llama 3, control pieces of SentencePiece).
  bool renames = false;
};

// `own`, and the tokens of `config` with their ids: the id of the vocabulary's piece of this text, else the
// stated id, else the next free one, as in transformers. Warns of ids that no file states, and of names that
// get no id because it would lie outside the model's vocabulary. Error (kBadFile) for stated ids that are
// unreasonably large.
std::vector<AddedToken> with_named_tokens(std::vector<AddedToken> own, const TokenizerConfig& config,
                                          const BaseVocabulary& vocabulary);

// Tokens that are put around a text.
struct TextFrame {
  std::vector<int32_t> before, after;
};
// Sets BOS and EOS of the frame as `add_bos_token` and `add_eos_token` say.
void adapt_frame(TextFrame& frame, const TokenizerConfig& config, std::optional<int32_t> bos,
                 std::optional<int32_t> eos);
bool begins_with(const TextFrame& frame, std::optional<int32_t> id);

}  // namespace sepllm
