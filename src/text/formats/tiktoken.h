// tiktoken's format, as Llama 3 ships it (tokenizer.model): a line for each token, its bytes in base64 and
// its rank. The splitting pattern and the 256 special tokens behind the ranks are Llama 3's; the file has
// none.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "text/formats/bpe_tokenizer.h"

namespace sepllm {

bool looks_like_tiktoken(std::string_view bytes);

// Error (kBadFile) with the line for what is not base64 and a rank, ranks that are not 0, 1, 2, ..., tokens
// twice, or a byte without a token.
std::unique_ptr<Tokenizer> parse_tiktoken(std::string_view bytes, const std::string& file,
                                          TokenizerConfig config = {});

}  // namespace sepllm
