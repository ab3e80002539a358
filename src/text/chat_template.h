// How a conversation becomes the text of a prompt: by the model's own Jinja template, or by a format of ours,
// which is a template too. docs/CHAT-TEMPLATES.md.
#pragma once

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
  enum class Role { kSystem, kUser, kAssistant } role;
  std::string content;
  // The content is what the model wrote behind the beginning of an answer, blanks at its ends included: our
  // formats leave it as it is. (What a model's template does is its own affair.)
  bool as_generated = false;
};
const char* role_name(ChatMessage::Role role);  // "system", "user", "assistant"

// Where an answer ends: tokens, and strings where the format has no such token.
struct ChatStops {
  std::vector<int32_t> ids;
  std::vector<std::string> strings;
};

class ChatTemplate {
 public:
  ChatTemplate();  // the format "plain"
  // The tokenizer's default template; the format "plain" where it has none. Error for a template that cannot
  // be read, and (kNotFound) where there are several but none is the default.
  static ChatTemplate of_model(const Tokenizer& tokenizer);
  // By the name of a format (chat_format_names()), of one of the tokenizer's templates, or by a file
  // NAME.jinja. Error (kInvalidArgument) for another name.
  static ChatTemplate by_name(const Tokenizer& tokenizer, const std::string& name);

  // "chatml", "template" (the model's default one), its name or file.
  const std::string& name() const { return name_; }
  // Name and hash of the text: the same for templates that write the same.
  std::string fingerprint() const;

  // The text of these messages, and the beginning of an answer where `begin_answer`. What messages say is the
  // user's, roles and everything else the template's. `clock`: the time that a template can ask for. Error if
  // the template refuses the conversation, cannot be run, or a format's special token is missing.
  MarkedText render(const Tokenizer& tokenizer, const std::vector<ChatMessage>& messages,
                    const std::tm& clock, bool begin_answer = true) const;
  // How answers end: as the format says; for other templates what they write behind an answer: the first
  // special token, or the text up to the next message. (The model's end tokens come on top.)
  ChatStops stops(const Tokenizer& tokenizer, const std::tm& clock) const;

 private:
  ChatTemplate(std::string name, std::string source, const std::string& file);
  ChatStops found_stops(const Tokenizer& tokenizer, const std::tm& clock) const;

  std::string name_, source_;
  std::shared_ptr<const jinja::Template> template_;
  bool is_own_format_ = false;  // of ours
};

// Names of our formats: "llama3", "llama2", "chatml", "falcon", "plain".
std::vector<std::string> chat_format_names();

// Ids of `text` from byte `from` on, special tokens recognised in the template's bytes only. `from` > 0: as
// it goes on behind what came before.
std::vector<int32_t> encode_marked(const Tokenizer& tokenizer, const MarkedText& text, size_t from = 0);

// The time now, of this place: for a conversation that begins.
std::tm clock_now();

}  // namespace sepllm
