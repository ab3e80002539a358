// SentencePiece models (tokenizer.model of Llama-2 and similar models).
#pragma once

#include <memory>
#include <string>

#include "text/formats/sentencepiece_model.h"  // looks_like_sentencepiece
#include "text/formats/tokenizer_config.h"
#include "text/tokenizer.h"

namespace sepllm {

// Models of Llama-2's kind (BPE, byte fallback, no normalisation) are encoded by our own code, which gives
// the library's result but is faster; others (unigram, NFKC, user-defined pieces) are encoded by the library.
// Error (kBadFile) for any fault of the file.
// The strings of special tokens (<s>, </s>, <unk> and other control pieces, and those of `config`) in a text
// are parsed if parse_special is on, as in Hugging Face's LlamaTokenizer: the text's blank in front is added
// at its start only, not after such a string, unless the files say "legacy".
// A BOS is put before a text unless `config` says otherwise, as Llama's own program does.
std::unique_ptr<Tokenizer> load_sentencepiece(const std::string& path);
// The same from the bytes of such a file; `file` is its name in errors.
std::unique_ptr<Tokenizer> parse_sentencepiece(const std::string& bytes, const std::string& file,
                                               const TokenizerConfig& config = {});

}  // namespace sepllm
