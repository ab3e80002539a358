// tiktoken's format, as Llama 3 ships it (tokenizer.model): one line per token with its bytes in base64 and
// its rank. The splitting pattern and the 256 special tokens after the ranks are Llama 3's; the file does not
// have them.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "text/formats/bpe_tokenizer.h"

namespace sepllm {

bool looks_like_tiktoken(std::string_view bytes);

// Error (kBadFile) with the line for anything but base64 and a rank, for ranks that are not 0, 1, 2, ..., for
// a token given twice, or for a byte without a token.
std::unique_ptr<Tokenizer> parse_tiktoken(std::string_view bytes, const std::string& file,
                                          TokenizerConfig config = {});

}  // namespace sepllm
