// sepllm chat: a conversation in the terminal.
#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "apps/shell/commands.h"
#include "apps/shell/common.h"
#include "apps/shell/figures.h"
#include "apps/shell/output.h"
#include "base/error.h"
#include "base/utf8.h"
#include "engine/conversation.h"
#include "engine/sampling_defaults.h"
#include "text/blanks.h"

namespace sepllm {
namespace {

constexpr const char* kHelp =
    "/undo        undo the last turn\n"
    "/retry       another answer to the last turn (/retry SEED: with this seed)\n"
    "/save FILE   save the conversation\n"
    "/load FILE   continue a saved conversation\n"
    "/stats       what the cache holds\n"
    "/prompt      the last prompt, as the chat template wrote it\n"
    "/help        this text\n"
    "/exit        end the conversation (or end of input)\n"
    "Ctrl-C       ends the answer; pressed twice, it ends the program";

std::string joined_format_names() { return fmt::format("{}", fmt::join(chat_format_names(), "|")); }

class ChatCommand : public Command {
 public:
  ChatCommand() {
    own_.add_string("chat-format", &format_, "format of the turns", joined_format_names()).default_note =
        "the model's own template; plain if it has none";
    own_.add_string("system", &settings_.system, "system message");
    own_.add_int("n", &settings_.max_new_tokens, 1, INT64_MAX, "maximum number of tokens in an answer");
    own_.add_strings("stop", &settings_.stops, "end an answer before this string; may be given several times",
                     "TEXT");
    declare_sampling();
    common_.declare(&common_options_, true);
  }
  std::string name() const override { return "chat"; }
  std::string summary() const override { return "Hold a conversation in the terminal"; }
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
    if (common_.json) throw Error(ErrorCode::kInvalidArgument, "chat has no --json output");
    Model model = common_.load(&policy_);
    const Tokenizer& tokenizer = model.tokenizer_or_error();
    settings_.chat = choose_chat_template(tokenizer);
    settings_.sampling = choose_sampling();
    settings_.clock = clock_now();
    settings_.policy = policy_.settings;
    check_cache_fits(model, settings_.policy, {.possible = model.config().max_positions}, memory_at_hand());
    Runtime runtime(common_, &model.decoder);
    Conversation conversation(model, runtime.context(), settings_);
    if (input_is_terminal()) {
      print_note(fmt::format("chat format {}, policy {}, {}; /help lists the commands", settings_.chat.name(),
                             policy_name(policy_.settings.policy.kind), sampling_text(settings_.sampling)));
    }
    while (const std::optional<std::string> line = read_line()) {
      if (line->empty()) continue;
      if (line->front() == '/') {
        if (!obey(*line, conversation)) break;
      } else {
        say(*line, conversation);
      }
      if (ended_) break;
    }
    if (!last_figures_.empty()) print_note(last_figures_);
    return 0;
  }

 private:
  void declare_sampling() {
    given_ = chat_sampling();
    declare_sampling_options(&sampling_options_, &given_);
    for (Option& option : sampling_options_.options()) {
      if (option.name == "seed") continue;
      option.default_note = option.name == "repeat-last-n"
                                ? option.default_text() + "; the model's own penalty: -1"
                                : "the model's own; " + option.default_text() + " if it states none";
    }
  }

  ChatTemplate choose_chat_template(const Tokenizer& tokenizer) const {
    if (!format_.empty()) return ChatTemplate::by_name(tokenizer, format_);
    ChatTemplate out = ChatTemplate::of_model(tokenizer);
    if (tokenizer.chat_templates().empty()) {
      print_note(
          fmt::format("the model has no chat template: turns have the format {}; {} {} chooses another",
                      out.name(), option_name("chat-format"), joined_format_names()));
    }
    return out;
  }

  // What the model states, unless an option says otherwise.
  SamplingSettings choose_sampling() const {
    return with_given_sampling(sampling_options_, given_, sampling_defaults(common_.model).settings);
  }

  static std::optional<std::string> read_line() {
    if (input_is_terminal()) print("> ");
    std::string line;
    if (!std::getline(std::cin, line)) return std::nullopt;
    if (!line.empty() && line.back() == '\r') line.pop_back();
    return utf8_sanitize(line);
  }

  // False if the conversation ends.
  bool obey(const std::string& line, Conversation& conversation) {
    const size_t end = line.find(' ');
    const std::string command = line.substr(0, end);
    const std::string argument(trim_blanks(std::string_view(line).substr(std::min(end, line.size()))));
    if (command == "/exit" || command == "/quit") return false;
    const bool takes_file = command == "/save" || command == "/load";
    if (takes_file && argument.empty()) {
      print_note(command + " needs a file");
      return true;
    }
    try {
      if (takes_file) {
        save_or_load(command == "/save", argument, conversation);
      } else if (command == "/retry") {
        retry(argument, conversation);
      } else if (command == "/undo") {
        undo(conversation);
      } else if (command == "/prompt") {
        require_turn(conversation);
        print_note(conversation.prompt());
      } else if (command == "/stats") {
        show_stats(conversation);
      } else {
        if (command != "/help") print_note("unknown command " + command);
        print_note(kHelp);
      }
    } catch (const Refused& refused) {
      print_note("error: " + refused.message);
    }
    return true;
  }

  // Thrown by a command that changed nothing.
  struct Refused {
    std::string message;
  };

  static void save_or_load(bool save, const std::string& file, Conversation& conversation) {
    try {
      save ? conversation.save(file) : conversation.load(file);
    } catch (const Error& error) {
      throw Refused{error.marked_text()};
    }
    print_note(fmt::format("{} {} turn{}, {} tokens", save ? "saved" : "loaded", conversation.n_turns(),
                           conversation.n_turns() == 1 ? "" : "s", conversation.session().cache().length()));
  }

  static void require_turn(const Conversation& conversation) {
    if (conversation.n_turns() == 0) throw Refused{"there is no turn yet"};
  }

  static void undo(Conversation& conversation) {
    require_turn(conversation);
    print_note("undone: " + conversation.undo());
  }

  void retry(const std::string& argument, Conversation& conversation) {
    require_turn(conversation);
    const std::optional<int64_t> seed = argument.empty() ? std::nullopt : parse_integer(argument);
    if (!argument.empty() && (!seed || *seed < 0)) throw Refused{"no seed: " + argument};
    const InterruptGuard guard;
    show(conversation.retry(seed, printer(guard)), guard);
  }

  void show_stats(const Conversation& conversation) const {
    const Session& session = conversation.session();
    print_note(fmt::format("{} tokens so far, {} held, {} for undo | {}", session.cache().length(),
                           human_bytes(session.cache().held_bytes()), human_bytes(session.marks().bytes()),
                           kv_figures(session.cache().stats())));
    print_note(fmt::format("{} turn{}, seed {}{}{}", conversation.n_turns(),
                           conversation.n_turns() == 1 ? "" : "s", conversation.seed(),
                           last_figures_.empty() ? "" : " | ", last_figures_));
  }

  void say(const std::string& text, Conversation& conversation) {
    const InterruptGuard guard;
    const auto answer = conversation.answer(text, printer(guard), [&] { return !guard.interrupted(); });
    if (answer) {
      show(*answer, guard);
    } else {
      print_note("interrupted before the answer: the turn was undone");
      ended_ = guard.terminated();
    }
  }

  static std::function<bool(const std::string&)> printer(const InterruptGuard& guard) {
    return [&guard](const std::string& piece) {
      print(piece);
      return !guard.interrupted();
    };
  }

  void show(const Answer& answer, const InterruptGuard& guard) {
    print("\n");
    if (answer.result.failure) std::rethrow_exception(answer.result.failure);
    ended_ = guard.terminated();
    const double seconds = answer.feed_seconds;
    last_figures_ = fmt::format("last turn: {} tokens in at {:.1f} tokens/s, {} out at {:.1f} tokens/s",
                                answer.fed, seconds > 0 ? static_cast<double>(answer.fed) / seconds : 0.0,
                                answer.result.ids.size(), answer.result.decode_tokens_per_second());
  }

  OptionSet own_, sampling_options_, common_options_;
  PolicyOptions policy_;
  SamplingSettings given_;  // by options
  ConversationSettings settings_;
  CommonOptions common_;
  std::string format_;
  std::string last_figures_;
  bool ended_ = false;
};

}  // namespace

std::unique_ptr<Command> make_chat_command() { return std::make_unique<ChatCommand>(); }

}  // namespace sepllm
