// Chat formats: recognised from a model's template, written out by our own code (no Jinja interpreter).
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "text/tokenizer.h"

namespace sepllm {

enum class ChatFormat { kLlama3, kLlama2, kChatMl, kFalcon, kPlain };

struct ChatMessage {
  enum class Role { kSystem, kUser, kAssistant } role;
  std::string content;
};

// Names for --chat-format: "llama3", "llama2", "chatml", "falcon", "plain".
std::vector<std::string> chat_format_names();
const char* chat_format_name(ChatFormat format);
ChatFormat parse_chat_format(const std::string& name);  // Error (kInvalidArgument)

// The format of the tokenizer's chat template; plain where there is none. Error (kUnsupported) that names
// --chat-format for an unknown template.
ChatFormat recognise_chat_format(const Tokenizer& tokenizer);

// Ids of the messages from index `first` on, as they follow what came before (first = 0: with BOS and the
// format's beginning), ending with the header of the assistant's turn. Where the message before `first` is
// the assistant's, it was generated, and its end (a stop token is not fed) comes first. Special strings
// inside a message's content are plain text; only those of the format become special tokens. Error
// (kInvalidArgument) if the last message is not the user's, if a system message is not the first one in a
// format that has no other place for it, or if the tokenizer lacks a special token of the format.
std::vector<int32_t> encode_chat(const Tokenizer& tokenizer, ChatFormat format,
                                 const std::vector<ChatMessage>& messages, size_t first);

// Tokens at which the assistant's turn ends, and strings that end it in formats without such a token.
struct ChatStops {
  std::vector<int32_t> ids;
  std::vector<std::string> strings;
};
ChatStops chat_stops(const Tokenizer& tokenizer, ChatFormat format);

}  // namespace sepllm
