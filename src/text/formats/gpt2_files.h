// GPT-2's own two files: vocab.json and merges.txt.
#pragma once

#include <memory>
#include <string>

#include "text/formats/bpe_tokenizer.h"

namespace sepllm {

// Accepts merges.txt with or without the "#version" line. <|endoftext|> is a special token if the vocabulary
// has it. Error (kNotFound) if one of the files is missing, else as for parse_tokenizer_json.
std::unique_ptr<Tokenizer> load_gpt2_files(const std::string& vocab_path, const std::string& merges_path,
                                           const TokenizerConfig& config = {});

}  // namespace sepllm
