// Tokenizer files of llama2.c (tok*.bin): int32 longest piece, then for each token float score, int32 length,
// bytes. The number of tokens is not stored.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "text/formats/tokenizer_config.h"
#include "text/tokenizer.h"

namespace sepllm {

// `config_vocab_size` > 0: the number of tokens that the model expects. Ids 0, 1, 2 are <unk>, <s>, </s>; 3
// to 258 are the bytes. Error (kBadFile) for a truncated file, lengths beyond the stated longest piece,
// another number of tokens than expected, or other tokens in the places of the bytes.
std::unique_ptr<Tokenizer> load_llama2c(const std::string& path, int64_t config_vocab_size,
                                        const TokenizerConfig& config = {});
// The same from the bytes of such a file; `file` is its name in errors.
std::unique_ptr<Tokenizer> parse_llama2c(std::string_view bytes, const std::string& file,
                                         int64_t config_vocab_size, const TokenizerConfig& config = {});

}  // namespace sepllm
