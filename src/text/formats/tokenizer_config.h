// What the files next to a tokenizer say about it: tokenizer_config.json, special_tokens_map.json,
// added_tokens.json, chat_template.jinja, generation_config.json, config.json. They mean the same for every
// form of tokenizer.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "text/steps/added_tokens.h"
#include "text/tokenizer.h"

namespace sepllm {

// A special token: its text, or its id in the model's configuration if no text is given.
struct SpecialTokenChoice {
  std::optional<std::string> text;
  std::optional<int64_t> id;
};

// A token that one of the files names.
struct NamedToken {
  AddedToken token;   // id -1: the file states none
  std::string place;  // file and key, for warnings
  // Its flags have priority over those that tokenizer.json gives to the same token.
  bool overrides = false;
  // Named only in a file that does not count (see read_tokenizer_config): no token is made of it.
  bool ignored = false;
};

struct TokenizerConfig {
  SpecialTokenChoice bos, eos;
  std::optional<bool> add_bos, add_eos;
  // Whether a blank is put before a text that does not begin with one.
  std::optional<bool> add_prefix_space;
  // "legacy" of Llama's tokenizers: that blank is also put after each special token of the text.
  bool prefix_everywhere = false;
  // In the order in which they get ids if no file states one.
  std::vector<NamedToken> tokens;
  std::vector<NamedTemplate> chat_templates;
  std::map<std::string, std::string> token_texts;  // "bos_token", ...: see Tokenizer::token_texts()
  int64_t model_vocab_size = 0;                    // from config.json; 0: not known
};

// Reads whichever of the files are in `folder`, with the precedence of transformers 5:
// - Tokens: `added_tokens_decoder` of tokenizer_config.json. Only where that key is absent,
//   special_tokens_map.json counts as well, before tokenizer_config.json, and added_tokens.json.
// - `add_prefix_space` counts for tokenizer classes of a model family (GPT2Tokenizer, LlamaTokenizer, ...),
//   not for PreTrainedTokenizerFast, whose tokenizer.json has the last word.
// - Ids of BOS and EOS for which no text is given: generation_config.json, then config.json.
// Error (kBadFile) for values of the wrong type.
TokenizerConfig read_tokenizer_config(const std::string& folder);

// The same without chat templates, from the contents of these files, by name; `folder` is used in errors.
using HubDocuments = std::map<std::string, Json>;
TokenizerConfig parse_tokenizer_config(const HubDocuments& documents, const std::string& folder);

}  // namespace sepllm
