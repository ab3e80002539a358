// A tokenizer as the metadata of a GGUF file: the way back from gguf_tokenizer.h.
#pragma once

#include <cstdint>
#include <string>

#include "checkpoint/gguf_writer.h"

namespace sepllm {

// tokenizer.ggml.* and the chat templates of load_tokenizer(path); nothing if there is no tokenizer there.
// `n_tokens`: rows of the model's embedding, each of which gets an entry. Error (kUnsupported) for a
// tokenizer that GGUF cannot describe: neither byte-level BPE whose way of splitting a text has a name there
// nor SentencePiece's BPE.
GgufFields gguf_tokenizer_fields(const std::string& path, int64_t n_tokens);

}  // namespace sepllm
