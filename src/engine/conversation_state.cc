// A conversation as a file: the session's state, and in its header the messages and which tokens they are.
#include <fmt/format.h>

#include <array>
#include <cstdint>
#include <ctime>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "engine/conversation.h"

namespace sepllm {
namespace {

constexpr const char* kCommand = "chat";
constexpr int64_t kConversationVersion =
    2;  // 1: without the template, the clock and the tokens that were not fed before a turn
using Role = ChatMessage::Role;

Json sampler_json(const SamplerState& s) { return {{"seed", s.seed}, {"counter", s.counter}}; }

SamplerState sampler_from(const JsonObject& object) {
  return {object.integer("seed", 0, INT64_MAX),
          static_cast<uint64_t>(object.integer("counter", 0, INT64_MAX))};
}

// The fields of std::tm that a template can ask for.
constexpr std::array kClockFields = {&std::tm::tm_sec,  &std::tm::tm_min,  &std::tm::tm_hour,
                                     &std::tm::tm_mday, &std::tm::tm_mon,  &std::tm::tm_year,
                                     &std::tm::tm_wday, &std::tm::tm_yday, &std::tm::tm_isdst};

Json clock_json(const std::tm& clock) {
  Json out = Json::array();
  for (const auto field : kClockFields) out.push_back(clock.*field);
  return out;
}

[[noreturn]] void refuse(const JsonObject& object, const char* key, const std::string& expected) {
  throw Error(ErrorCode::kBadFile, "the state contradicts itself",
              {.file = object.file(), .place = object.path_of(key), .expected = expected});
}

const Json& list(const JsonObject& object, const char* key) {
  const Json& value = object.at(key);
  if (!value.is_array()) refuse(object, key, "a list");
  return value;
}

std::tm clock_from(const JsonObject& object) {
  // strftime looks these numbers up in tables, so they must be in range.
  constexpr std::array<int, kClockFields.size()> kMost = {60, 59, 23, 31, 11, 8099, 6, 365, 1};
  const Json& numbers = list(object, "clock");
  std::tm clock{};
  if (numbers.size() != kClockFields.size()) refuse(object, "clock", "nine numbers");
  for (size_t k = 0; k < kClockFields.size(); ++k) {
    const int64_t number = numbers[k].is_number_integer() ? numbers[k].get<int64_t>() : -2;
    const int least = kClockFields[k] == &std::tm::tm_isdst ? -1 : 0;
    if (number < least || number > kMost[k]) refuse(object, "clock", "a date and time");
    clock.*kClockFields[k] = static_cast<int>(number);
  }
  return clock;
}

std::vector<int32_t> ids_from(const JsonObject& object, const char* key, int64_t vocab_size) {
  std::vector<int32_t> out;
  for (const Json& value : list(object, key)) {
    const int64_t id = value.is_number_integer() ? value.get<int64_t>() : -1;
    if (id < 0 || id >= vocab_size) refuse(object, key, "token ids of the model");
    out.push_back(static_cast<int32_t>(id));
  }
  return out;
}

}  // namespace

struct Conversation::Content {
  std::tm clock{};
  std::vector<ChatMessage> messages;
  std::vector<Turn> turns;
  std::vector<int32_t> history, unfed;
  SamplerState sampler;
};

void Conversation::save(const std::string& path) const {
  Json said = Json::array(), turns = Json::array();
  for (const ChatMessage& m : messages_) {
    said.push_back({{"role", role_name(m.role)}, {"content", m.content}});
  }
  for (const Turn& t : turns_) {
    turns.push_back({{"begin", t.begin},
                     {"before", t.before},
                     {"answer", t.answer},
                     {"sampler", sampler_json(t.sampler)}});
  }
  session_->save(path, {{"command", kCommand},
                        {"version", kConversationVersion},
                        {"chat_format", settings_.chat.name()},
                        {"chat_template", settings_.chat.fingerprint()},
                        {"clock", clock_json(settings_.clock)},
                        {"messages", std::move(said)},
                        {"turns", std::move(turns)},
                        {"sampler", sampler_json(sampler_.state())},
                        {"unfed", unfed_},
                        {"tokens", history_}});
}

void Conversation::load(const std::string& path) {
  const StateFile file(path);
  const JsonObject header(file.header(), path);
  const JsonObject extra = header.object("extra");
  const auto require = [&](const char* key, const std::string& own, const std::string& message) {
    const std::string theirs = extra.string_or(key, "");
    if (theirs == own) return;
    throw Error(ErrorCode::kInvalidArgument, message, {.file = path, .expected = theirs, .got = own});
  };
  require("command", kCommand, "the state belongs to another command");
  require_version(header, extra, "a conversation", {kConversationVersion, kConversationVersion});
  require("chat_format", settings_.chat.name(),
          "the state was saved with another " + option_name("chat-format"));
  require("chat_template", settings_.chat.fingerprint(), "the state was saved with another chat template");
  Content c;
  for (const Json& item : list(extra, "messages")) {
    const JsonObject message(item, path, "messages");
    const std::string role = message.string("role");
    const bool system = c.messages.empty() && role == "system";
    const bool user = c.messages.empty() || c.messages.back().role != Role::kUser;
    if (!system && role != (user ? "user" : "assistant")) refuse(extra, "messages", "the roles in turn");
    c.messages.push_back({system ? Role::kSystem
                          : user ? Role::kUser
                                 : Role::kAssistant,
                          message.string("content"),
                          /*as_generated=*/!system && !user});
  }
  const int64_t vocab_size = model_.config().vocab_size;
  c.history = ids_from(extra, "tokens", vocab_size);
  c.unfed = ids_from(extra, "unfed", vocab_size);
  c.sampler = sampler_from(extra.object("sampler"));
  c.clock = clock_from(extra);
  const auto length = static_cast<int64_t>(c.history.size());
  if (header.integer("tokens", 0, INT64_MAX) != length)
    refuse(extra, "tokens", "as many as the cache has seen");
  const int64_t n_known = length + static_cast<int64_t>(c.unfed.size());
  for (const Json& item : list(extra, "turns")) {
    const JsonObject turn(item, path, "turns");
    Turn t;
    t.begin = turn.integer("begin", 0, n_known);
    t.answer = turn.integer("answer", t.begin, n_known - 1);
    t.before = ids_from(turn, "before", vocab_size);
    t.sampler = sampler_from(turn.object("sampler"));
    c.turns.push_back(std::move(t));
  }
  const size_t n_system = !c.messages.empty() && c.messages[0].role == Role::kSystem ? 1 : 0;
  if (c.messages.size() != 2 * c.turns.size() + n_system) refuse(extra, "messages", "two for each turn");

  session_->restore(file);
  settings_.clock = c.clock;
  messages_ = std::move(c.messages);
  turns_ = std::move(c.turns);
  history_ = std::move(c.history);
  unfed_ = std::move(c.unfed);
  sampler_.restore(c.sampler);
}

}  // namespace sepllm
