// Conversations with templates that do not repeat what the model said: the cache goes back and follows the
// template.
#include <gtest/gtest.h>

#include <ctime>
#include <memory>
#include <string>

#include "base/error.h"
#include "base/utf8.h"
#include "engine/conversation.h"
#include "model/random_model.h"
#include "tests/support/expect_error.h"
#include "tests/support/support.h"

namespace sepllm {
namespace {

class ConversationByTemplate : public ::testing::Test {
 protected:
  ConversationByTemplate() {
    write_random_model(folder_.path(), {.variant = "llama", .seed = 5, .hidden_size = 32, .n_layers = 2});
    model_ = std::make_unique<Model>(load_model(folder_.path(), ""));
    settings_.max_new_tokens = 12;
    settings_.policy.prefill_chunk = 16;
    settings_.sampling = {.temperature = 0.9, .seed = 7};
    Policy& p = settings_.policy.policy;
    p.init = 3;
    p.window = 8;
    p.seps = 6;
    p.capacity = 30;
  }
  void use(const std::string& source) {
    model_->tokenizer->set_chat_template(source);
    settings_.chat = ChatTemplate::of_model(*model_->tokenizer);
  }
  void use(PolicyKind kind) {
    Policy& p = settings_.policy.policy;
    p.kind = kind;
    p.positions = p.streaming() ? PositionMode::kCache : PositionMode::kOriginal;
  }
  std::string entered(const Conversation& conversation) const {
    const Session& session = conversation.session();
    const auto ids = session.marks().tokens(0, session.cache().length());
    return utf8_sanitize(model_->tokenizer->decode({ids.begin(), ids.end()}));
  }
  static std::string say(Conversation& conversation, const std::string& text) {
    const auto answer = conversation.answer(
        text, [](const std::string&) { return true; }, [] { return true; });
    return answer ? answer->result.text : "(interrupted)";
  }

  // A template that leaves out all of an answer but its first letter, as models' templates leave out the
  // reasoning.
  static constexpr const char* kForgets =
      "{% for m in messages %}[{{ m.role[0] }}]{{ m.content[:1] if m.role == 'assistant' else m.content }}{% "
      "endfor %}"
      "{% if add_generation_prompt %}[a]{% endif %}";
  static constexpr const char* kRepeats =
      "{% for m in messages %}[{{ m.role[0] }}]{{ m.content }}{% endfor %}{% if add_generation_prompt "
      "%}[a]{% endif %}";

  test::TemporaryFolder folder_;
  std::unique_ptr<Model> model_;
  ConversationSettings settings_;
  ThreadPool pool_{1};
  Arena arena_;
  Context ctx_{pool_, arena_};
};

TEST_F(ConversationByTemplate, TheCacheHoldsWhatTheTemplateWrites) {
  for (const char* source : {kForgets, kRepeats}) {
    use(source);
    for (const PolicyKind kind : {PolicyKind::kFull, PolicyKind::kSepStream}) {
      use(kind);
      SCOPED_TRACE(std::string(source) + policy_name(kind));
      Conversation conversation(*model_, ctx_, settings_);
      for (const char* text : {"One, two.", "Three.", "Four; five, six. Seven!"}) {
        const std::string answer = say(conversation, text);
        const std::string prompt = conversation.prompt();
        EXPECT_TRUE(prompt.ends_with(std::string("[u]") + text + "[a]")) << prompt;
        const std::string cached = entered(conversation);
        EXPECT_TRUE(cached.starts_with(prompt)) << cached << "\n" << prompt;
        // The last token of an answer waits for the next turn.
        EXPECT_LE(cached.size(), prompt.size() + answer.size() * 4);
      }
    }
  }
}

TEST_F(ConversationByTemplate, WhatIsTakenBackHasNeverBeen) {
  use(kForgets);
  const std::string file = folder_.file("c.chat");
  for (const PolicyKind kind : {PolicyKind::kFull, PolicyKind::kSep, PolicyKind::kSepStream}) {
    use(kind);
    SCOPED_TRACE(policy_name(kind));
    Conversation without(*model_, ctx_, settings_), with(*model_, ctx_, settings_);
    for (Conversation* c : {&without, &with}) {
      say(*c, "One, two.");
      say(*c, "Three.");
    }
    say(with, "Not this.");
    EXPECT_EQ(with.undo(), "Not this.");
    EXPECT_FALSE(with.answer(
        "Nor this.", [](const std::string&) { return true; }, [] { return false; }));
    with.save(file);
    Conversation loaded(*model_, ctx_, settings_);
    loaded.load(file);
    const std::string expected = say(without, "Four.");
    EXPECT_EQ(say(with, "Four."), expected);
    EXPECT_EQ(say(loaded, "Four."), expected);
    EXPECT_EQ(entered(with), entered(without));
    EXPECT_EQ(entered(loaded), entered(without));
    // Everything again, from the beginning.
    while (with.n_turns() > 0) with.undo();
    while (loaded.n_turns() > 0) loaded.undo();
    Conversation fresh(*model_, ctx_, settings_);
    const std::string first = say(fresh, "Anew.");
    EXPECT_EQ(say(with, "Anew."), first);
    EXPECT_EQ(say(loaded, "Anew."), first);
  }
}

TEST_F(ConversationByTemplate, ATemplateThatRefusesSaysSoAtOnce) {
  use("{% if messages[0].role == 'system' %}{{ raise_exception('no system message, please') }}{% endif %}x");
  { Conversation fine(*model_, ctx_, settings_); }
  settings_.system = "Be brief.";
  test::expect_error([&] { Conversation(*model_, ctx_, settings_); }, ErrorCode::kInvalidArgument,
                     {"line 1", "no system message, please"});
  settings_.system.clear();
  use("{{ messages | tojson | nofilter }}");
  test::expect_error([&] { Conversation(*model_, ctx_, settings_); }, ErrorCode::kInvalidArgument,
                     {"nofilter"});
}

TEST_F(ConversationByTemplate, AStateIsOfItsTemplate) {
  const std::string file = folder_.file("s.chat");
  use(kRepeats);
  Conversation one(*model_, ctx_, settings_);
  say(one, "Hello.");
  one.save(file);
  use(kForgets);
  Conversation other(*model_, ctx_, settings_);
  test::expect_error([&] { other.load(file); }, ErrorCode::kInvalidArgument, {"another chat template"});
}

TEST_F(ConversationByTemplate, TheTimeIsThatOfItsBeginning) {
  const std::string file = folder_.file("t.chat");
  use("{{ strftime_now('%d %b %Y, %H:%M') }} {{ messages[-1].content }}");
  settings_.clock = std::tm{};
  settings_.clock.tm_mday = 3;
  settings_.clock.tm_year = 126;
  Conversation one(*model_, ctx_, settings_);
  say(one, "Hello.");
  one.save(file);
  settings_.clock.tm_year = 127;
  Conversation other(*model_, ctx_, settings_);
  other.load(file);
  say(other, "So.");
  EXPECT_EQ(other.prompt(), "03 Jan 2026, 00:00 So.");
}

}  // namespace
}  // namespace sepllm
