#include "text/chat_format.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "base/check.h"
#include "base/error.h"
#include "base/options.h"
#include "text/blanks.h"

namespace sepllm {
namespace {

using Role = ChatMessage::Role;

std::string trimmed(std::string_view text) { return std::string(trim_blanks(text)); }

void replace_all(std::string& text, std::string_view from, std::string_view to) {
  for (size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size())) {
    text.replace(at, from.size(), to);
  }
}

// Collects a conversation as ids. Plain text between two special tokens is encoded in one piece, as it would
// be in the rendered template, but without looking for special strings in it.
class Writer {
 public:
  // `continues`: what comes first follows other text, not the beginning or a special token.
  Writer(const Tokenizer& tokenizer, ChatFormat format, bool continues)
      : tokenizer_(tokenizer), format_(format), continues_(continues) {}

  void text(std::string_view text) { pending_ += text; }
  void special(const std::string& name) { special_id(tokenizer_.find(name), name); }
  void bos() { special_id(tokenizer_.bos_id(), "BOS"); }
  void eos() { special_id(tokenizer_.eos_id(), "EOS"); }
  const Tokenizer& tokenizer() const { return tokenizer_; }

  std::vector<int32_t> finish() {
    flush();
    return std::move(ids_);
  }

 private:
  void special_id(std::optional<int32_t> id, const std::string& name) {
    if (!id) {
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("the tokenizer has no {} token, which chat format {} needs", name,
                              chat_format_name(format_)),
                  {.hint = "choose another with --chat-format"});
    }
    flush();
    continues_ = false;
    ids_.push_back(*id);
  }

  void flush() {
    if (pending_.empty()) return;
    const auto ids =
        tokenizer_.encode(pending_, {.parse_special = false, .add_special = false, .continues = continues_});
    continues_ = false;
    ids_.insert(ids_.end(), ids.begin(), ids.end());
    pending_.clear();
  }

  const Tokenizer& tokenizer_;
  ChatFormat format_;
  bool continues_;
  std::string pending_;
  std::vector<int32_t> ids_;
};

using Messages = std::vector<ChatMessage>;

const char* role_name(Role role) {
  switch (role) {
    case Role::kSystem:
      return "system";
    case Role::kUser:
      return "user";
    case Role::kAssistant:
      return "assistant";
  }
  throw CheckFailure("unknown role");
}

// ---- Llama-3: <|start_header_id|>role<|end_header_id|>\n\ncontent<|eot_id|>. The templates of 3.1 and later
// put
// ---- dates before the system message, which we leave out.

void llama3_header(Writer& out, const char* role) {
  out.special("<|start_header_id|>");
  out.text(role);
  out.special("<|end_header_id|>");
  out.text("\n\n");
}

void llama3_start(Writer& out) { out.special("<|begin_of_text|>"); }
void llama3_end_answer(Writer& out) { out.special("<|eot_id|>"); }
void llama3_begin_answer(Writer& out) { llama3_header(out, "assistant"); }

void llama3_message(Writer& out, const Messages& messages, size_t k) {
  llama3_header(out, role_name(messages[k].role));
  out.text(trim_blanks(messages[k].content));
  llama3_end_answer(out);
}

// ---- Llama-2: <s>[INST] <<SYS>>\nsystem\n<</SYS>>\n\nuser [/INST] answer </s>, and again from <s>.

void llama2_start(Writer&) {}
void llama2_end_answer(Writer& out) { out.eos(); }
void llama2_begin_answer(Writer&) {}  // the user's turn ends with [/INST]

void llama2_message(Writer& out, const Messages& messages, size_t k) {
  if (messages[k].role == Role::kSystem) return;  // written with the user's turn
  if (messages[k].role == Role::kAssistant) {
    out.text(" " + trimmed(messages[k].content) + " ");
    out.eos();
    return;
  }
  std::string content = messages[k].content;
  if (k == 1 && messages[0].role == Role::kSystem) {
    content = "<<SYS>>\n" + messages[0].content + "\n<</SYS>>\n\n" + content;
  }
  out.bos();
  out.text("[INST] " + trimmed(content) + " [/INST]");
}

// ---- ChatML: <|im_start|>role\ncontent<|im_end|>\n. A default system message, which some templates add, is
// the
// ---- caller's choice.

void chatml_start(Writer& out) {
  const auto& chat_template = out.tokenizer().chat_template();
  const bool wants_bos =
      chat_template ? chat_template->find("bos_token") != std::string::npos : out.tokenizer().adds_bos();
  if (wants_bos) out.bos();
}
void chatml_header(Writer& out, const char* role) {
  out.special("<|im_start|>");
  out.text(fmt::format("{}\n", role));
}
void chatml_end_answer(Writer& out) {
  out.special("<|im_end|>");
  out.text("\n");
}
void chatml_begin_answer(Writer& out) { chatml_header(out, "assistant"); }

void chatml_message(Writer& out, const Messages& messages, size_t k) {
  chatml_header(out, role_name(messages[k].role));
  out.text(messages[k].content);
  chatml_end_answer(out);
}

// ---- Falcon-instruct: system\n\nUser: text\n\nAssistant: answer. No special tokens; blank lines in a
// message
// ---- would look like the end of a turn and are closed up.

void falcon_start(Writer&) {}
void falcon_end_answer(Writer&) {}
void falcon_begin_answer(Writer& out) { out.text("\n\nAssistant:"); }

void falcon_message(Writer& out, const Messages& messages, size_t k) {
  if (messages[k].role == Role::kSystem) {
    out.text(trim_blanks(messages[k].content));
    return;
  }
  std::string content = trimmed(messages[k].content);
  replace_all(content, "\r\n", "\n");
  // One pass from the left, each pair once: what str.replace('\n\n', '\n') does.
  replace_all(content, "\n\n", "\n");
  out.text((messages[k].role == Role::kUser ? "\n\nUser: " : "\n\nAssistant: ") + content);
}

// ---- Plain, for models without a template: our own choice.

void plain_start(Writer& out) {
  if (out.tokenizer().adds_bos()) out.bos();
}
void plain_end_answer(Writer& out) { out.text("\n"); }
void plain_begin_answer(Writer& out) { out.text("Assistant:"); }

void plain_message(Writer& out, const Messages& messages, size_t k) {
  const std::string content = trimmed(messages[k].content);
  switch (messages[k].role) {
    case Role::kSystem:
      return out.text(content + "\n\n");
    case Role::kUser:
      return out.text("User: " + content + "\n");
    case Role::kAssistant:
      out.text("Assistant: " + content);
      return plain_end_answer(out);
  }
}

struct Format {
  ChatFormat format;
  const char* name;
  bool system_only_first;
  void (*start)(Writer&);
  void (*message)(Writer&, const Messages&, size_t);
  void (*begin_answer)(Writer&);
  void (*end_answer)(Writer&);  // of a generated answer
  std::vector<std::string> stop_tokens;
  std::vector<std::string> stop_strings;
};

const std::vector<Format>& formats() {
  static const std::vector<Format> kFormats = {{ChatFormat::kLlama3,
                                                "llama3",
                                                false,
                                                llama3_start,
                                                llama3_message,
                                                llama3_begin_answer,
                                                llama3_end_answer,
                                                {"<|eot_id|>", "<|end_of_text|>"},
                                                {}},
                                               {ChatFormat::kLlama2,
                                                "llama2",
                                                true,
                                                llama2_start,
                                                llama2_message,
                                                llama2_begin_answer,
                                                llama2_end_answer,
                                                {},
                                                {}},
                                               {ChatFormat::kChatMl,
                                                "chatml",
                                                false,
                                                chatml_start,
                                                chatml_message,
                                                chatml_begin_answer,
                                                chatml_end_answer,
                                                {"<|im_end|>"},
                                                {}},
                                               {ChatFormat::kFalcon,
                                                "falcon",
                                                true,
                                                falcon_start,
                                                falcon_message,
                                                falcon_begin_answer,
                                                falcon_end_answer,
                                                {},
                                                {"\nUser:"}},
                                               {ChatFormat::kPlain,
                                                "plain",
                                                true,
                                                plain_start,
                                                plain_message,
                                                plain_begin_answer,
                                                plain_end_answer,
                                                {},
                                                {"\nUser:"}}};
  return kFormats;
}

const Format& format_of(ChatFormat format) {
  for (const Format& f : formats()) {
    if (f.format == format) return f;
  }
  throw CheckFailure("unknown chat format");
}

void check_messages(const Format& format, const Messages& messages) {
  if (messages.empty() || messages.back().role != Role::kUser) {
    throw Error(ErrorCode::kInvalidArgument, "the last message of a conversation must be the user's");
  }
  for (size_t k = 1; k < messages.size(); ++k) {
    if (format.system_only_first && messages[k].role == Role::kSystem) {
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("chat format {} takes a system message only as the first one", format.name));
    }
  }
}

// A template is told by what only its format has. Templates write a line feed as \n within a string or as it
// is.
std::optional<ChatFormat> format_of_template(std::string text) {
  replace_all(text, "\\n", "\n");
  const auto has = [&](const char* part) { return text.find(part) != std::string::npos; };
  if (has("<|start_header_id|>") && has("<|eot_id|>")) return ChatFormat::kLlama3;
  if (has("<|im_start|>") && has("<|im_end|>")) return ChatFormat::kChatMl;
  if (has("[INST]") && has("<<SYS>>")) return ChatFormat::kLlama2;
  const bool falcon_user = has("\n\nUser: ") || has("message['role'].title()");
  if (falcon_user && has("\n\nAssistant:") && !has("bos_token") && !has("System:"))
    return ChatFormat::kFalcon;
  return std::nullopt;
}

}  // namespace

std::vector<std::string> chat_format_names() {
  std::vector<std::string> names;
  for (const Format& f : formats()) names.emplace_back(f.name);
  return names;
}

const char* chat_format_name(ChatFormat format) { return format_of(format).name; }

ChatFormat parse_chat_format(const std::string& name) {
  for (const Format& f : formats()) {
    if (name == f.name) return f.format;
  }
  const std::string near = nearest_name(name, chat_format_names());
  throw Error(ErrorCode::kInvalidArgument, "unknown chat format",
              {.place = "--chat-format",
               .expected = fmt::format("{}", fmt::join(chat_format_names(), ", ")),
               .got = "'" + name + "'",
               .hint = near.empty() ? "" : "did you mean '" + near + "'?"});
}

ChatFormat recognise_chat_format(const Tokenizer& tokenizer) {
  if (!tokenizer.chat_template()) return ChatFormat::kPlain;
  if (const auto format = format_of_template(*tokenizer.chat_template())) return *format;
  throw Error(ErrorCode::kUnsupported, "the model's chat template is of no known format",
              {.hint = fmt::format("choose one with --chat-format {}", fmt::join(chat_format_names(), "|"))});
}

std::vector<int32_t> encode_chat(const Tokenizer& tokenizer, ChatFormat format,
                                 const std::vector<ChatMessage>& messages, size_t first) {
  const Format& f = format_of(format);
  check_messages(f, messages);
  SEPLLM_CHECK(first < messages.size());
  const bool after_answer = first > 0 && messages[first - 1].role == Role::kAssistant;
  Writer out(tokenizer, format, /*continues=*/after_answer);
  if (first == 0) f.start(out);
  if (after_answer) f.end_answer(out);
  for (size_t k = first; k < messages.size(); ++k) f.message(out, messages, k);
  f.begin_answer(out);
  return out.finish();
}

ChatStops chat_stops(const Tokenizer& tokenizer, ChatFormat format) {
  ChatStops stops;
  const auto add = [&](std::optional<int32_t> id) {
    if (id && std::find(stops.ids.begin(), stops.ids.end(), *id) == stops.ids.end()) stops.ids.push_back(*id);
  };
  const Format& f = format_of(format);
  for (const std::string& token : f.stop_tokens) add(tokenizer.find(token));
  add(tokenizer.eos_id());
  stops.strings = f.stop_strings;
  return stops;
}

}  // namespace sepllm
