// A chat in progress: turns of user and model over one session. Turns can be taken back and answered again,
// and the chat can be saved and resumed. The history lives only in the cache: each turn feeds what is new.
// The prompt is what the model's template writes for all messages. If it begins with what the cache holds,
// only the rest is fed; otherwise (for example, a template that leaves out the model's reasoning) the cache
// goes back to the place where they differ.
#pragma once

#include <cstdint>
#include <ctime>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "engine/generator.h"
#include "text/chat_template.h"

namespace sepllm {

struct ConversationSettings {
  PolicySettings policy;
  SamplingSettings sampling;
  ChatTemplate chat;  // writes the prompts
  // when the conversation began: the time that the template sees in all turns
  std::tm clock{};
  std::string system{};              // the system message; empty: none
  std::vector<std::string> stops{};  // these end an answer, in addition to the template's own
  int64_t max_new_tokens = 512;      // per answer
};

struct Answer {
  GenerateResult result;
  int64_t fed = 0;            // tokens that entered before the answer
  double feed_seconds = 0.0;  // for these tokens
};

class Conversation {
 public:
  // Error as for Session, and if the template cannot write such a conversation. `model` is kept by reference,
  // `ctx` by value.
  Conversation(const Model& model, const Context& ctx, const ConversationSettings& settings);

  using OnText = std::function<bool(const std::string&)>;  // returning false ends the answer
  // The user's turn and the answer to it. Empty if `go_on` returned false before the answer began: then the
  // turn is taken back. Afterwards the cache holds (or will be fed) exactly the text of the answer: tokens of
  // a stop string are rewound. Error as for generate(); after an Error the conversation is unusable.
  std::optional<Answer> answer(const std::string& text, const OnText& on_text,
                               const std::function<bool()>& go_on);
  // Answers the last turn again, with this seed or, without one, with the seed after the last one. n_turns()
  // > 0. With the seed of an earlier answer, the same text comes out.
  Answer retry(std::optional<int64_t> seed, const OnText& on_text);
  // Takes the last turn back and returns what the user said. Everything that follows is as if the turn had
  // never been (the sampler's state goes back too). n_turns() > 0.
  std::string undo();

  // Saves everything that is needed to continue, and the turns. Error (kIo).
  void save(const std::string& path) const;
  // Replaces this conversation by the saved one; its next answer is what it would have been there, under the
  // same settings. Error as for Session::restore, and for a state that is not a conversation's or has another
  // chat format; then the conversation does not change.
  void load(const std::string& path);

  int64_t n_turns() const { return static_cast<int64_t>(turns_.size()); }
  const std::vector<ChatMessage>& messages() const { return messages_; }
  int64_t seed() const { return sampler_.state().seed; }
  const Session& session() const { return *session_; }
  // The text that the template writes for the messages up to the last one of the user. n_turns() > 0.
  std::string prompt() const;

 private:
  struct Turn {
    int64_t begin = 0;            // the position where it began
    std::vector<int32_t> before;  // the tokens from there on as they were before the turn, fed or not
    int64_t answer = 0;           // the position of its last token before the answer
    SamplerState sampler;         // at its beginning
  };
  struct Content;  // the content of a state
  // The prompt of the next answer: the first `kept` of the tokens so far, then `rest`.
  struct Prompt {
    int64_t kept;
    std::vector<int32_t> rest;  // not empty
  };

  std::vector<int32_t> known() const;  // the tokens so far, fed or not
  Prompt next_prompt() const;
  void check_ids(const std::vector<int32_t>& ids) const;
  Answer generate_answer(const OnText& on_text);
  void fit_cache_to(const GenerateResult& result, const std::vector<int32_t>& prompt);
  void keep_fed(int64_t n);
  void go_back(int64_t position);
  void open_session();

  const Model& model_;
  Context ctx_;
  ConversationSettings settings_;
  const Tokenizer& tokenizer_;
  ChatStops stops_;
  Sampler sampler_;
  std::optional<Session> session_;

  std::vector<ChatMessage> messages_;
  std::vector<Turn> turns_;
  std::vector<int32_t> history_;  // the tokens that have entered the cache
  // tokens of the last answer that are not yet in the cache: they follow history_
  std::vector<int32_t> unfed_;
};

}  // namespace sepllm
