// Our own chat formats, for models without a template and as a fallback where a model's template cannot be
// run.
#pragma once

#include <string>
#include <vector>

namespace sepllm {

// One of our formats. In addition to what every template is given, `begins_with_bos` says whether a BOS comes
// first, and `as_generated` of a message says that its content is what the model wrote after the beginning of
// an answer.
struct ChatFormat {
  const char* name;
  const char* source;
  // Special tokens that the model must have for the format to make sense; "bos" and "eos" stand for whichever
  // the tokenizer has.
  std::vector<std::string> needs;
  std::vector<std::string> stop_tokens;
  std::vector<std::string> stop_strings;
};

const std::vector<ChatFormat>& chat_formats();
const ChatFormat* find_chat_format(const std::string& name);  // null if there is none

}  // namespace sepllm
