// sepllm tokenize: turns text into ids and pieces, or back.
#include <fmt/format.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "apps/shell/commands.h"
#include "apps/shell/common.h"
#include "apps/shell/output.h"
#include "base/error.h"
#include "base/file.h"
#include "model/config.h"
#include "text/chat_template.h"
#include "text/token_ids.h"

namespace sepllm {
namespace {

class TokenizeCommand : public Command {
 public:
  TokenizeCommand() {
    common_.declare(&common_options_, false);
    own_.add_string("text", &text_, "text (with --decode: ids)");
    own_.add_string("file", &file_, "file of text (with --decode: of ids)", "FILE");
    own_.add_string("messages", &messages_,
                    "file with a conversation, a JSON list of {\"role\": ..., \"content\": ...}; gives its "
                    "prompt as the chat template writes it",
                    "FILE");
    own_.add_string("chat-format", &chat_format_,
                    "chat format for --messages, in place of the model's template", "F");
    own_.add_flag("decode", &decode_, "turn ids, separated by commas or blanks, into text");
    own_.add_flag("special", &special_,
                  "add the special tokens that the tokenizer's files put around a text");
  }
  std::string name() const override { return "tokenize"; }
  std::string summary() const override { return "Turn text into token ids and pieces, or ids into text"; }
  std::string usage() const override {
    return "(--model M | --tokenizer FILE) (--text S | --file F | --messages F) [--decode] [--special] "
           "[--json]";
  }
  std::vector<OptionGroup> groups() override { return {{"Input", &own_}, {"General", &common_options_}}; }

  int run() override {
    const int n_inputs = own_.was_set("text") + own_.was_set("file") + own_.was_set("messages");
    if (n_inputs != 1) {
      throw Error(ErrorCode::kInvalidArgument, n_inputs > 1 ? "several inputs given" : "no input given",
                  {.expected = "one of --text, --file and --messages"});
    }
    const auto tokenizer = open();
    if (own_.was_set("messages")) return run_prompt(*tokenizer);
    return decode_ ? run_decode(*tokenizer) : run_encode(*tokenizer);
  }

 private:
  std::unique_ptr<Tokenizer> open() const {
    if (common_.model.empty() && common_.tokenizer.empty()) {
      throw Error(ErrorCode::kInvalidArgument, "no tokenizer given",
                  {.expected = "--model PATH or --tokenizer FILE"});
    }
    // llama2.c files need the size from the model; a folder with only a tokenizer has no config.json.
    const bool has_config = !common_.model.empty() &&
                            (common_.tokenizer.empty() || is_folder(common_.model)) &&
                            (file_exists(common_.model + "/config.json") || !is_folder(common_.model));
    const int64_t vocab_size = has_config ? read_model_spec(common_.model).config.vocab_size : 0;
    return load_tokenizer(common_.tokenizer.empty() ? common_.model : common_.tokenizer, vocab_size);
  }

  int run_encode(const Tokenizer& tokenizer) const {
    const std::string text = own_.was_set("file") ? read_text(file_) : text_;
    show(tokenizer, tokenizer.encode(text, {.parse_special = true, .add_special = special_}), std::nullopt);
    return 0;
  }

  std::vector<ChatMessage> read_messages() const {
    const Json list = parse_json(read_file(messages_), messages_);
    if (!list.is_array()) {
      throw Error(ErrorCode::kBadFile, "not a conversation",
                  {.file = messages_, .expected = "a JSON list of messages"});
    }
    std::vector<ChatMessage> messages;
    for (size_t k = 0; k < list.size(); ++k) {
      const JsonObject message(list[k], messages_, fmt::format("[{}]", k));
      const std::string role = message.string("role");
      using Role = ChatMessage::Role;
      for (const Role known : {Role::kSystem, Role::kUser, Role::kAssistant}) {
        if (role == role_name(known)) messages.push_back({known, message.string("content")});
      }
      if (messages.size() == k) {
        throw Error(ErrorCode::kBadFile, "unknown role",
                    {.file = messages_,
                     .place = message.path_of("role"),
                     .expected = "system, user or assistant",
                     .got = "'" + role + "'"});
      }
    }
    return messages;
  }

  int run_prompt(const Tokenizer& tokenizer) const {
    const ChatTemplate chat = chat_format_.empty() ? ChatTemplate::of_model(tokenizer)
                                                   : ChatTemplate::by_name(tokenizer, chat_format_);
    const MarkedText text = chat.render(tokenizer, read_messages(), clock_now());
    show(tokenizer, encode_marked(tokenizer, text), text.bytes());
    return 0;
  }

  void show(const Tokenizer& tokenizer, const std::vector<int32_t>& ids,
            const std::optional<std::string>& text) const {
    if (common_.json) {
      std::vector<std::string> pieces;
      pieces.reserve(ids.size());
      for (const int32_t id : ids) pieces.push_back(tokenizer.piece(id));
      Json out = {{"ids", ids}, {"pieces", pieces}};
      if (text) out["text"] = *text;
      return print_json(out);
    }
    std::string table;
    for (const int32_t id : ids) {
      table += fmt::format("{:>7}  {}\n", id, json_text(Json(tokenizer.piece(id))));
    }
    print(table);
  }

  int run_decode(const Tokenizer& tokenizer) const {
    const std::string source = own_.was_set("file") ? file_ : "--text";
    const std::vector<int32_t> ids = parse_ids(own_.was_set("file") ? read_file(file_) : text_, source);
    check_ids(ids, tokenizer.vocab_size(), source);
    const std::string text = tokenizer.decode(ids);
    if (common_.json) {
      print_json({{"text", text}});
    } else {
      print(output_is_terminal() ? text + "\n" : text);
    }
    return 0;
  }

  OptionSet own_, common_options_;
  CommonOptions common_;
  std::string text_, file_, messages_, chat_format_;
  bool decode_ = false, special_ = false;
};

}  // namespace

std::unique_ptr<Command> make_tokenize_command() { return std::make_unique<TokenizeCommand>(); }

}  // namespace sepllm
