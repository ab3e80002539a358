// What the names in a GGUF file's tokenizer.ggml.pre stand for. The file has only the name; the patterns are
// in the programs that read it (llama.cpp, src/llama-vocab.cpp).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"

namespace sepllm {

struct GgufPreTokenizer {
  std::vector<const char*> names;
  std::vector<const char*> patterns;  // a text is split by each of them in turn
  bool ignore_merges = false;         // a word that is a token is that token, whatever the merges say
  bool adds_bos = false;              // where tokenizer.ggml.add_bos_token is absent
};

// Null for a name that is not known.
const GgufPreTokenizer* find_gguf_pre_tokenizer(std::string_view name);

// All known names, for messages: "default, llama-bpe, ...".
std::string known_gguf_pre_tokenizers();

// The same as "pre_tokenizer" of a tokenizer.json, as JSON text.
std::string pre_tokenizer_json(const GgufPreTokenizer& pre);

// The name whose tokenizers split a text as the "pre_tokenizer" of this tokenizer.json does; empty if there
// is none.
std::string gguf_pre_tokenizer_name(const JsonObject& document, bool ignore_merges);

}  // namespace sepllm
