// How a conversation becomes the text of a prompt: by the model's own Jinja template, or by one of our
// formats, which is a template too. See docs/CHAT-TEMPLATES.md.
#pragma once

#include <cstdint>
#include <ctime>
#include <memory>
#include <string>
#include <vector>

#include "text/template/marked_text.h"
#include "text/tokenizer.h"

namespace sepllm {

namespace jinja {
class Template;
}

struct ChatMessage {
  enum class Role { kSystem, kUser, kAssistant, kTool } role;
  std::string content;
  // The content is exactly what the model wrote after the beginning of an answer, blanks at its ends
  // included: our formats do not change it. (A model's own template may.)
  bool as_generated = false;
};
const char* role_name(ChatMessage::Role role);  // "system", "user", "assistant", "tool"

// Where an answer ends: at one of these tokens, or at one of these strings if the format has no such token.
struct ChatStops {
  std::vector<int32_t> ids;
  std::vector<std::string> strings;
};

class ChatTemplate {
 public:
  ChatTemplate();  // the format "plain"
  // The tokenizer's default template, or the format "plain" if it has none. Error for a template that cannot
  // be read, and (kNotFound) if there are several but none is the default.
  static ChatTemplate of_model(const Tokenizer& tokenizer);
  // Chosen by the name of a format (chat_format_names()), by the name of one of the tokenizer's templates, or
  // by a file NAME.jinja. Error (kInvalidArgument) for any other name.
  static ChatTemplate by_name(const Tokenizer& tokenizer, const std::string& name);

  // "chatml", "template" (the model's default one), or the name or file of a template.
  const std::string& name() const { return name_; }
  // Name and hash of the text: equal for templates that write the same.
  std::string fingerprint() const;

  // The text of these messages and, if `begin_answer`, the beginning of an answer. The bytes of messages are
  // marked as the user's, and roles and everything else as the template's. `clock`: the time that a template
  // can ask for. Error if the template refuses the conversation, cannot be run, or a format's special token
  // is missing. Our formats answer only to a user.
  MarkedText render(const Tokenizer& tokenizer, const std::vector<ChatMessage>& messages,
                    const std::tm& clock, bool begin_answer = true) const;
  // How answers end: as the format says; other templates are asked what they write after an answer: the first
  // special token, or the text up to the next message. (The model's end tokens are used in addition.)
  ChatStops stops(const Tokenizer& tokenizer, const std::tm& clock) const;

 private:
  ChatTemplate(std::string name, std::string source, const std::string& file);
  ChatStops found_stops(const Tokenizer& tokenizer, const std::tm& clock) const;

  std::string name_, source_;
  std::shared_ptr<const jinja::Template> template_;
  bool is_own_format_ = false;  // one of our formats
};

// Names of our formats: "llama3", "llama2", "chatml", "falcon", "plain".
std::vector<std::string> chat_format_names();

// Ids of `text` from byte `from` on; special tokens are recognised only in the template's bytes. `from` > 0:
// the ids continue what came before.
std::vector<int32_t> encode_marked(const Tokenizer& tokenizer, const MarkedText& text, size_t from = 0);

// The current local time, for a conversation that begins.
std::tm clock_now();

}  // namespace sepllm
