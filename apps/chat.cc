// sepllm chat: a conversation in the terminal. The history lives in the cache only: each turn feeds what is
// new.
#include <fmt/format.h>

#include <iostream>
#include <optional>

#include "apps/commands.h"
#include "apps/common.h"
#include "apps/output.h"
#include "base/error.h"
#include "base/utf8.h"
#include "engine/generator.h"
#include "text/chat_format.h"

namespace sepllm {
namespace {

constexpr const char* kHelp =
    "/help   this text\n"
    "/stats  what the cache holds\n"
    "/exit   end the conversation (or end of input)\n"
    "Ctrl-C  ends an answer; twice, the program";

std::string joined_format_names() { return fmt::format("{}", fmt::join(chat_format_names(), "|")); }

// One conversation: what was said, and which of its tokens are still to be fed.
class Conversation {
 public:
  Conversation(Session& session, Sampler& sampler, ChatFormat format, const std::string& system)
      : session_(session),
        sampler_(sampler),
        tokenizer_(session.model().tokenizer_or_error()),
        format_(format),
        stops_(chat_stops(tokenizer_, format)) {
    if (!system.empty()) messages_.push_back({ChatMessage::Role::kSystem, system});
  }

  GenerateResult answer(const std::string& text, int64_t max_new_tokens,
                        const std::function<bool(const std::string&)>& on_text) {
    messages_.push_back({ChatMessage::Role::kUser, text});
    GenerateRequest request;
    request.prompt = tokens_to_feed();
    request.max_new_tokens = max_new_tokens;
    request.stop_ids = stop_ids();
    request.stop_strings = stops_.strings;
    request.skip_special = true;
    const int64_t before = session_.cache().length();
    GenerateResult result = generate(session_, sampler_, request, on_text);
    // Sampled but not yet in the cache: part of what the next turn feeds.
    const auto entered = static_cast<size_t>(session_.cache().length() - before) - request.prompt.size();
    unfed_.assign(result.ids.begin() + static_cast<std::ptrdiff_t>(std::min(entered, result.ids.size())),
                  result.ids.end());
    messages_.push_back({ChatMessage::Role::kAssistant, result.text});
    fed_messages_ = messages_.size();
    return result;
  }

 private:
  std::vector<int32_t> tokens_to_feed() const {
    std::vector<int32_t> ids = unfed_;
    const std::vector<int32_t> turn = encode_chat(tokenizer_, format_, messages_, fed_messages_);
    ids.insert(ids.end(), turn.begin(), turn.end());
    check_ids(ids, session_.model().config().vocab_size, "the tokenizer");
    return ids;
  }

  std::vector<int32_t> stop_ids() const {
    std::vector<int32_t> ids = stops_.ids;
    const std::vector<int32_t>& more = session_.model().config().eos_token_ids;
    ids.insert(ids.end(), more.begin(), more.end());
    return ids;
  }

  Session& session_;
  Sampler& sampler_;
  const Tokenizer& tokenizer_;
  ChatFormat format_;
  ChatStops stops_;
  std::vector<ChatMessage> messages_;
  size_t fed_messages_ = 0;
  std::vector<int32_t> unfed_;
};

class ChatCommand : public Command {
 public:
  ChatCommand() {
    own_.add_string("chat-format", &format_,
                    "format of the turns (default: as the model's template says; plain where there is none)",
                    joined_format_names());
    own_.add_string("system", &system_, "system message");
    own_.add_int("n", &n_, 1, INT64_MAX, "tokens of an answer at most");
    sampling_.temperature = 0.8;
    declare_sampling_options(&sampling_options_, &sampling_);
    common_.declare(&common_options_, true);
  }
  std::string name() const override { return "chat"; }
  std::string summary() const override { return "A conversation in the terminal"; }
  std::string usage() const override {
    return "--model M [--chat-format F] [--system TEXT] [sampling] [policy]";
  }
  std::vector<OptionGroup> groups() override {
    return {{"Conversation", &own_},
            {"Sampling", &sampling_options_},
            {"What the cache keeps", &policy_.options},
            {"General", &common_options_}};
  }

  int run() override {
    if (common_.json) throw Error(ErrorCode::kInvalidArgument, "chat has no --json form");
    const std::optional<ChatFormat> chosen =
        format_.empty() ? std::nullopt : std::optional(parse_chat_format(format_));
    const Model model = common_.load();
    policy_.finish(model);
    const ChatFormat format = chosen ? *chosen : recognise_chat_format(model.tokenizer_or_error());
    Runtime runtime(common_);
    Session session(model, policy_.settings, runtime.context());
    Sampler sampler(sampling_, model.config().vocab_size);
    Conversation conversation(session, sampler, format, system_);
    if (input_is_terminal()) {
      print_note(fmt::format("chat format {}, policy {}; /help lists the commands", chat_format_name(format),
                             policy_name(policy_.settings.policy.kind)));
    }
    while (const std::optional<std::string> line = read_line()) {
      if (line->empty()) continue;
      if (line->front() == '/') {
        if (!obey(*line, session)) break;
        continue;
      }
      turn(conversation, *line);
      if (ended_) break;
    }
    if (!last_figures_.empty()) print_note(last_figures_);
    return 0;
  }

 private:
  static std::optional<std::string> read_line() {
    if (input_is_terminal()) print("> ");
    std::string line;
    if (!std::getline(std::cin, line)) return std::nullopt;
    if (!line.empty() && line.back() == '\r') line.pop_back();
    return utf8_sanitize(line);
  }

  // False: the conversation ends.
  static bool obey(const std::string& command, const Session& session) {
    if (command == "/exit" || command == "/quit") return false;
    if (command == "/stats") {
      print_note(fmt::format("{} tokens so far, {} held | {}", session.cache().length(),
                             human_bytes(kv_bytes_held(session.cache())),
                             kv_figures(session.cache().stats())));
    } else {
      if (command != "/help") print_note("unknown command " + command);
      print_note(kHelp);
    }
    return true;
  }

  void turn(Conversation& conversation, const std::string& text) {
    const InterruptGuard guard;
    const GenerateResult result = conversation.answer(text, n_, [&](const std::string& piece) {
      print(piece);
      return !guard.interrupted();
    });
    print("\n");
    if (result.failure) std::rethrow_exception(result.failure);
    ended_ = guard.terminated();
    last_figures_ = fmt::format("last turn: {} tokens in at {:.1f} tokens/s, {} out at {:.1f} tokens/s",
                                result.prompt_tokens, result.prefill_tokens_per_second(), result.ids.size(),
                                result.decode_tokens_per_second());
  }

  OptionSet own_, sampling_options_, common_options_;
  PolicyOptions policy_;
  SamplingSettings sampling_;
  CommonOptions common_;
  std::string format_, system_;
  std::string last_figures_;
  bool ended_ = false;
  int64_t n_ = 512;
};

}  // namespace

std::unique_ptr<Command> make_chat_command() { return std::make_unique<ChatCommand>(); }

}  // namespace sepllm
