#include "text/chat_template.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstdint>
#include <ctime>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"
#include "base/file.h"
#include "base/options.h"
#include "text/chat_formats.h"
#include "text/template/template.h"

namespace sepllm {
namespace {

using jinja::Value;

constexpr uint64_t kMaxTemplateFile = uint64_t{1} << 22;

Value template_text(std::string text) { return Value::text(std::move(text), Origin::kTemplate); }

Value messages_value(const std::vector<ChatMessage>& messages, bool own_format) {
  jinja::Budget budget{jinja::Limits{}};
  std::vector<Value> values;
  values.reserve(messages.size());
  try {
    for (const ChatMessage& message : messages) {
      std::vector<std::pair<Value, Value>> items = {
          {template_text("role"), template_text(role_name(message.role))},
          {template_text("content"), Value::text(message.content, Origin::kUser)}};
      if (own_format) {
        items.emplace_back(template_text("as_generated"), Value::boolean(message.as_generated));
      }
      values.push_back(Value::dict(std::move(items), budget));
    }
    return Value::list(std::move(values), budget);
  } catch (const jinja::Failure& failure) {
    throw Error(failure.code, failure.message);
  }
}

// Adds bos_token, eos_token, ... as the tokenizer's files name them; if no file does, by the ids that it
// uses.
void add_token_texts(const Tokenizer& tokenizer, bool own_format, jinja::Interpreter::Variables& variables) {
  const auto& texts = tokenizer.token_texts();
  for (const auto& [name, text] : texts) variables.emplace_back(name, template_text(text));
  const auto add = [&](const char* name, std::optional<int32_t> id) {
    if (id && (texts.empty() || own_format) && !texts.contains(name)) {
      variables.emplace_back(name, template_text(tokenizer.piece(*id)));
    }
  };
  add("bos_token", tokenizer.bos_id());
  add("eos_token", tokenizer.eos_id());
}

// Whether our formats put a BOS first: they do if the model's own template does or, without one, if its
// tokenizer puts one before texts.
bool begins_with_bos(const Tokenizer& tokenizer) {
  if (!tokenizer.bos_id()) return false;
  const auto& own = tokenizer.chat_template();
  return own ? own->find("bos_token") != std::string::npos : tokenizer.adds_bos();
}

void check_needs(const Tokenizer& tokenizer, const ChatFormat& format) {
  for (const std::string& name : format.needs) {
    const bool found = name == "bos"   ? tokenizer.bos_id().has_value()
                       : name == "eos" ? tokenizer.eos_id().has_value()
                                       : tokenizer.find(name).has_value();
    if (found) continue;
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("the tokenizer has no {} token, which chat format {} needs", name, format.name),
                {.hint = "choose another with " + option_name("chat-format")});
  }
}

std::vector<std::string> known_names(const Tokenizer& tokenizer) {
  std::vector<std::string> names = chat_format_names();
  for (const NamedTemplate& own : tokenizer.chat_templates()) {
    if (own.name != "default") names.push_back(own.name);
  }
  return names;
}

}  // namespace

const char* role_name(ChatMessage::Role role) {
  constexpr const char* kNames[] = {"system", "user", "assistant", "tool"};
  return kNames[static_cast<size_t>(role)];
}

std::vector<std::string> chat_format_names() {
  std::vector<std::string> names;
  for (const ChatFormat& format : chat_formats()) names.emplace_back(format.name);
  return names;
}

ChatTemplate::ChatTemplate() : ChatTemplate("plain", find_chat_format("plain")->source, "chat format plain") {
  is_own_format_ = true;
}

ChatTemplate::ChatTemplate(std::string name, std::string source, const std::string& file)
    : name_(std::move(name)),
      source_(std::move(source)),
      template_(std::make_shared<const jinja::Template>(source_, file)) {}

ChatTemplate ChatTemplate::of_model(const Tokenizer& tokenizer) {
  const std::vector<NamedTemplate>& own = tokenizer.chat_templates();
  if (own.empty()) return by_name(tokenizer, "plain");
  for (const NamedTemplate& one : own) {
    if (one.name == "default") return {"template", one.text, one.file};
  }
  throw Error(ErrorCode::kNotFound, "the model has several chat templates, none of them the default",
              {.hint = fmt::format("choose one with {} {}", option_name("chat-format"),
                                   fmt::join(known_names(tokenizer), "|"))});
}

ChatTemplate ChatTemplate::by_name(const Tokenizer& tokenizer, const std::string& name) {
  if (const ChatFormat* format = find_chat_format(name)) {
    ChatTemplate out(name, format->source, "chat format " + name);
    out.is_own_format_ = true;
    return out;
  }
  for (const NamedTemplate& own : tokenizer.chat_templates()) {
    if (own.name == name) return {name, own.text, own.file};
  }
  if (name.ends_with(".jinja")) return {name, read_file(name, kMaxTemplateFile), name};
  const std::vector<std::string> names = known_names(tokenizer);
  const std::string near = nearest_name(name, names);
  throw Error(ErrorCode::kInvalidArgument, "unknown chat format",
              {.place = option_name("chat-format"),
               .expected = fmt::format("{}, or a file NAME.jinja", fmt::join(names, ", ")),
               .got = "'" + name + "'",
               .hint = near.empty() ? "" : "did you mean '" + near + "'?"});
}

std::string ChatTemplate::fingerprint() const {
  Hash64 hash;
  hash.add(source_.data(), source_.size());
  return (is_own_format_ ? name_ : "template") + " " + hex64(hash.value());
}

MarkedText ChatTemplate::render(const Tokenizer& tokenizer, const std::vector<ChatMessage>& messages,
                                const std::tm& clock, bool begin_answer) const {
  const bool ends_well = !messages.empty() && messages.back().role == ChatMessage::Role::kUser;
  if (messages.empty() || (begin_answer && is_own_format_ && !ends_well)) {
    throw Error(ErrorCode::kInvalidArgument, "the last message of a conversation must be the user's");
  }
  if (is_own_format_) check_needs(tokenizer, *find_chat_format(name_));
  const bool has_tool = std::any_of(messages.begin(), messages.end(),
                                    [](const auto& m) { return m.role == ChatMessage::Role::kTool; });
  if (is_own_format_ && has_tool) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("chat format {} does not take messages of role tool", name_));
  }
  // The same variables as in transformers, for a conversation without tools.
  jinja::Interpreter::Variables variables = {{"messages", messages_value(messages, is_own_format_)},
                                             {"tools", Value()},
                                             {"documents", Value()},
                                             {"add_generation_prompt", Value::boolean(begin_answer)}};
  add_token_texts(tokenizer, is_own_format_, variables);
  if (is_own_format_) {
    variables.emplace_back("begins_with_bos", Value::boolean(begins_with_bos(tokenizer)));
  }
  return template_->render(variables, clock);
}

ChatStops ChatTemplate::stops(const Tokenizer& tokenizer, const std::tm& clock) const {
  ChatStops stops;
  if (is_own_format_) {
    const ChatFormat& format = *find_chat_format(name_);
    for (const std::string& token : format.stop_tokens) {
      if (const auto id = tokenizer.find(token)) stops.ids.push_back(*id);
    }
    stops.strings = format.stop_strings;
  } else {
    stops = found_stops(tokenizer, clock);
  }
  const auto eos = tokenizer.eos_id();
  if (eos && std::find(stops.ids.begin(), stops.ids.end(), *eos) == stops.ids.end())
    stops.ids.push_back(*eos);
  return stops;
}

// Finds what the template writes between an answer and the message after it.
ChatStops ChatTemplate::found_stops(const Tokenizer& tokenizer, const std::tm& clock) const {
  using Role = ChatMessage::Role;
  const std::string answer = "theanswerends", next = "thenextmessage";
  std::vector<ChatMessage> talk = {{Role::kUser, "x"}, {Role::kAssistant, answer}, {Role::kUser, next}};
  const MarkedText text = render(tokenizer, talk, clock, false);
  const size_t at = text.bytes().find(answer);
  if (at == std::string::npos) return {};
  const size_t begin = at + answer.size();
  const size_t end = std::min(text.bytes().find(next, begin), text.size());
  const MarkedText between = text.slice(begin, end);
  for (const int32_t id : encode_marked(tokenizer, between)) {
    if (tokenizer.is_special(id)) return {{id}, {}};
  }
  std::string ending = between.bytes();
  ending.resize(ending.find_last_not_of(" \t\r\n") + 1);
  // Line feeds are trimmed, so that models that end a turn with one too many or too few are ended as well.
  const size_t first = ending.find_first_not_of("\r\n");
  if (first == std::string::npos) return {};
  if (first > 1) ending.erase(0, first - 1);
  return {{}, {ending}};
}

std::vector<int32_t> encode_marked(const Tokenizer& tokenizer, const MarkedText& text, size_t from) {
  const MarkedText part = text.slice(from, text.size());
  const std::vector<TextRange> ranges = part.template_ranges();
  return tokenizer.encode(part.bytes(), {.continues = from > 0, .special_within = &ranges});
}

std::tm clock_now() {
  const std::time_t now = std::time(nullptr);
  std::tm clock{};
  localtime_r(&now, &clock);
  return clock;
}

}  // namespace sepllm
