// A chat in progress: turns of user and model over one session, which can be taken back, answered again,
// saved and taken up. The history lives in the cache only: each turn feeds what is new. The prompt is what
// the model's template writes of all messages; where it begins with what the cache holds, only the rest is
// fed, and otherwise (a template that leaves out what the model thought, say) the cache goes back to where
// they part.
#pragma once

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
  ChatTemplate chat;                 // writes the prompts
  std::tm clock{};                   // when the conversation began: the template's time in all of its turns
  std::string system{};              // message; empty: none
  std::vector<std::string> stops{};  // end an answer, besides the template's own
  int64_t max_new_tokens = 512;      // of an answer
};

struct Answer {
  GenerateResult result;
  int64_t fed = 0;            // tokens that entered before the answer
  double feed_seconds = 0.0;  // for them
};

class Conversation {
 public:
  // Error as Session; also if the template cannot write a conversation like this one. `model` is kept by
  // reference, `ctx` by value.
  Conversation(const Model& model, const Context& ctx, const ConversationSettings& settings);

  using OnText = std::function<bool(const std::string&)>;  // false ends the answer
  // The user's turn and its answer; empty where `go_on` said no before the answer began: the turn is taken
  // back then. Afterwards the cache holds (or is to be fed) the text of the answer and no more: tokens of a
  // stop string are rewound. Error as generate(); the conversation is unusable then.
  std::optional<Answer> answer(const std::string& text, const OnText& on_text,
                               const std::function<bool()>& go_on);
  // The last turn's answer again, with this seed, or with the seed after the last one. n_turns() > 0. With
  // the seed of an answer its text comes out again.
  Answer retry(std::optional<int64_t> seed, const OnText& on_text);
  // Takes the last turn back and returns what the user said: all that follows is as if it had never been (the
  // sampler goes back too). n_turns() > 0.
  std::string undo();

  // Writes what is needed to continue, and the turns. Error (kIo).
  void save(const std::string& path) const;
  // In place of this conversation, the saved one; its next answer is what it would have been there, under the
  // same settings. Error as Session::restore, also for a state of something else, or with another chat
  // format; the conversation is as it was then.
  void load(const std::string& path);

  int64_t n_turns() const { return static_cast<int64_t>(turns_.size()); }
  const std::vector<ChatMessage>& messages() const { return messages_; }
  int64_t seed() const { return sampler_.state().seed; }
  const Session& session() const { return *session_; }
  // What the template writes of the messages so far, up to the last one of the user's. n_turns() > 0.
  std::string prompt() const;

 private:
  struct Turn {
    int64_t begin = 0;            // position where it began
    std::vector<int32_t> before;  // tokens from there on as they were before it, fed or not
    int64_t answer = 0;           // position of its last token before the answer
    SamplerState sampler;         // when it began
  };
  struct Content;  // of a state
  // The prompt of the next answer: the first `kept` of the tokens so far, and these.
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
  std::vector<int32_t> history_;  // what has entered the cache
  std::vector<int32_t> unfed_;    // of the last answer, not yet in the cache: what follows history_
};

}  // namespace sepllm
