// Reads the JSON of tokenizers. A vocabulary has 10^5 keys and as many merges: they are read directly into
// lists, and only the rest becomes a JSON value.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "text/bpe/bpe_model.h"
#include "text/bpe/piece_table.h"

namespace sepllm {

struct TokenizerFile {
  Json document;  // without model.vocab and model.merges
  std::vector<VocabEntry> vocab;
  std::vector<MergePair> merges;
  bool has_vocab = false;
  bool has_merges = false;
};

// Reads a tokenizer.json. Error (kBadFile) for syntax errors, wrong types, duplicate or far too many keys.
TokenizerFile parse_tokenizer_file(std::string_view bytes, const std::string& file);

// Reads a vocab.json: one object of pieces and ids. Error as above.
std::vector<VocabEntry> parse_vocab_file(std::string_view bytes, const std::string& file);

// Parses "left right". Error (kBadFile) with `place` if it is not two pieces.
MergePair parse_merge(std::string_view line, const std::string& file, const std::string& place);

}  // namespace sepllm
