// Our own chat formats: for models without a template, and as the way out where a model's cannot be run.
#pragma once

#include <string>
#include <vector>

namespace sepllm {

// A format in our own words. Besides what every template is given, `begins_with_bos` says whether a BOS comes
// first, and `as_generated` of a message that its content is what the model wrote behind the beginning of an
// answer.
struct ChatFormat {
  const char* name;
  const char* source;
  // Special tokens without which the format means nothing to a model; "bos" and "eos": whichever the
  // tokenizer has.
  std::vector<std::string> needs;
  std::vector<std::string> stop_tokens;
  std::vector<std::string> stop_strings;
};

const std::vector<ChatFormat>& chat_formats();
const ChatFormat* find_chat_format(const std::string& name);  // null: there is none

}  // namespace sepllm
