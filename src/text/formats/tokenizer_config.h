// What the files beside a tokenizer say about it: tokenizer_config.json, special_tokens_map.json,
// chat_template.jinja, generation_config.json, config.json.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace sepllm {

// A special token by its text, and by its id in the model's configuration where no text is given.
struct SpecialTokenChoice {
  std::optional<std::string> text;
  std::optional<int64_t> id;
};

struct TokenizerConfig {
  SpecialTokenChoice bos, eos;
  std::optional<bool> add_bos, add_eos;
  std::optional<std::string> chat_template;
};

// Reads whichever of the files are in `folder`. Error (kBadFile) for values of the wrong type.
TokenizerConfig read_tokenizer_config(const std::string& folder);

}  // namespace sepllm
