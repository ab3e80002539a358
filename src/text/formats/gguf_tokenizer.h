// The tokenizer that a GGUF file brings with it (tokenizer.ggml.*), as the files that a Hugging Face folder
// of the same model has: those are read as usual, and exported with the model.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "checkpoint/gguf_metadata.h"
#include "text/tokenizer.h"

namespace sepllm {

// Whether the file brings a tokenizer, whatever its kind.
bool has_gguf_tokenizer(const GgufMetadata& metadata);

// By name: tokenizer.json for byte-level BPE ("gpt2"), tokenizer.model for SentencePiece ("llama"), and
// tokenizer_config.json, with the chat templates. Empty if the file has no tokenizer. Error (kBadFile,
// kNotFound) naming file and key for contents that contradict each other; (kUnsupported) for another kind of
// tokenizer and for an unknown pre-tokenizer: its name is all that the file says about it.
std::map<std::string, std::string> gguf_tokenizer_files(const GgufMetadata& metadata);

// The tokenizer itself. Error as above, (kNotFound) if the file has none, and for any fault that shows when
// those files are read. `config_vocab_size`: as for load_tokenizer().
std::unique_ptr<Tokenizer> gguf_tokenizer(const GgufMetadata& metadata, int64_t config_vocab_size);

}  // namespace sepllm
