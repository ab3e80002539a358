// Tokenizers in the `tokenizers` library's own format, tokenizer.json, with a BPE model.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "text/formats/bpe_tokenizer.h"

namespace sepllm {

// `bytes`: the content of `file` (its name, for messages). Error (kBadFile) for content that contradicts
// itself, (kUnsupported), naming the key, for anything that this program does not know.
std::unique_ptr<Tokenizer> parse_tokenizer_json(std::string_view bytes, const std::string& file,
                                                const TokenizerConfig& config = {});

}  // namespace sepllm
