// Conversations with tokens of several characters: what stays in the cache is the text that was shown.
#include "engine/conversation.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/build_info.h"
#include "model/random_model.h"
#include "tests/support/expect_error.h"
#include "tests/support/rewrite_state.h"
#include "tests/support/support.h"

namespace sepllm {
namespace {

class ConversationTest : public ::testing::Test {
 protected:
  // All text that has entered the session.
  static std::string entered(const Model& model, const Conversation& conversation) {
    const Session& session = conversation.session();
    const auto ids = session.marks().tokens(0, session.cache().length());
    return model.tokenizer->decode({ids.begin(), ids.end()}, /*skip_special=*/true);
  }
  static std::string say(Conversation& conversation, const std::string& text, int64_t most = INT64_MAX) {
    int64_t shown = 0;
    const auto answer = conversation.answer(
        text, [&](const std::string&) { return ++shown < most; }, [] { return true; });
    return answer ? answer->result.text : "(interrupted)";
  }

  ThreadPool pool_{1};
  Arena arena_;
  Context ctx_{pool_, arena_};
};

// The repeat penalty over the whole context looks at earlier turns, too.
TEST_F(ConversationTest, APenaltyOverTheWholeContextLooksAtEarlierTurns) {
  const test::TemporaryFolder folder;
  write_random_model(folder.path(), {.variant = "llama", .seed = 3, .hidden_size = 32, .n_layers = 2});
  const Model model = load_model(folder.path(), "");
  ConversationSettings settings;
  settings.max_new_tokens = 12;
  settings.sampling = {.repeat_penalty = 100.0, .repeat_last_n = SamplingSettings::kWholeContext};
  Conversation conversation(model, ctx_, settings);
  std::set<int32_t> seen;
  for (const char* text : {"Hello", "So?", "Why?"}) {
    const auto answer = conversation.answer(
        text, [](const std::string&) { return true; }, [] { return true; });
    ASSERT_TRUE(answer);
    ASSERT_EQ(answer->result.ids.size(), 12U);
    const Session& session = conversation.session();
    const auto entered = session.marks().tokens(0, session.cache().length());
    // The last token of an answer enters with the next turn.
    seen.insert(entered.begin(), entered.end() - 11);
    for (const int32_t id : answer->result.ids) EXPECT_TRUE(seen.insert(id).second) << text << ": " << id;
  }
}

TEST_F(ConversationTest, TheCacheHoldsWhatWasShownWhereverAnAnswerEnds) {
  SEPLLM_DATA_OR_SKIP(data);
  const Model model = load_model(data + "/derived/stories260k-hf", data + "/weights/stories260k/tok512.bin");
  ConversationSettings settings;
  settings.max_new_tokens = 40;
  settings.system = "A story.";
  for (const PolicyKind kind : {PolicyKind::kFull, PolicyKind::kSepStream}) {
    settings.policy.policy.kind = kind;
    if (kind == PolicyKind::kSepStream) {
      settings.policy.policy.window = 16;
      settings.policy.policy.seps = 8;
      settings.policy.policy.capacity = 40;
    }
    settings.stops.clear();
    Conversation whole(model, ctx_, settings);
    const std::string text = say(whole, "Tom found a big red ball.");
    ASSERT_GT(text.size(), 40U);
    const std::string begin = "A story.\n\nUser: Tom found a big red ball.\nAssistant:";
    const auto expect_text = [&](Conversation& conversation, const std::string& shown) {
      EXPECT_EQ(text.substr(0, shown.size()), shown);
      conversation.answer(
          "So?", [](const std::string&) { return false; }, [] { return true; });
      const std::string expected = begin + shown + "\nUser: So?\nAssistant:";
      EXPECT_EQ(entered(model, conversation).substr(0, expected.size()), expected);
    };
    int inside = 0;
    for (size_t at = 1; at < 40; ++at) {
      const std::string stop = text.substr(at, 3);
      if (text.find(stop) != at) continue;
      SCOPED_TRACE(stop);
      settings.stops = {stop};
      Conversation stopped(model, ctx_, settings);
      EXPECT_EQ(say(stopped, "Tom found a big red ball."), text.substr(0, at));
      expect_text(stopped, text.substr(0, at));
      // Undo the second turn: the first one is as it was.
      stopped.undo();
      expect_text(stopped, text.substr(0, at));
      ++inside;
    }
    EXPECT_GT(inside, 10);
    settings.stops.clear();
    Conversation cancelled(model, ctx_, settings);
    expect_text(cancelled, say(cancelled, "Tom found a big red ball.", 5));
    // Interrupted before it began: nothing has changed.
    Conversation silent(model, ctx_, settings);
    EXPECT_FALSE(silent.answer(
        "Hm", [](const std::string&) { return true; }, [] { return false; }));
    EXPECT_EQ(silent.n_turns(), 0);
    expect_text(silent, say(silent, "Tom found a big red ball."));
  }
}

// A conversation of random answers, under all policies: what follows /undo and /retry has the same bits,
// whether or not the conversation was saved and loaded in another process, and whether or not there was a
// turn to undo.
class TakenBackConversation : public ConversationTest {
 protected:
  TakenBackConversation() {
    write_random_model(folder_.path(), {.variant = "llama", .seed = 3, .hidden_size = 32, .n_layers = 2});
    model_ = std::make_unique<Model>(load_model(folder_.path(), ""));
    settings_.max_new_tokens = 30;
    settings_.system = "Be brief.";
    settings_.stops = {"e", "q"};  // these often occur inside what was sampled
    settings_.policy.prefill_chunk = 16;
    Policy& p = settings_.policy.policy;
    p.init = 3;
    p.window = 8;
    p.seps = 6;
    p.capacity = 30;
  }
  void set(PolicyKind kind, DType kv, int64_t seed) {
    Policy& p = settings_.policy.policy;
    p.kind = kind;
    p.positions = p.streaming() ? PositionMode::kCache : PositionMode::kOriginal;
    settings_.policy.kv = kv;
    settings_.sampling = {.temperature = 0.9, .seed = seed};
  }
  static std::string bits(const Conversation& c) {
    std::string out;
    StringWriter writer(&out);
    c.session().cache().save(writer);
    return out;
  }
  static std::string retry(Conversation& c) {
    return c.retry(std::nullopt, [](const std::string&) { return true; }).result.text;
  }

  test::TemporaryFolder folder_;
  std::unique_ptr<Model> model_;
  ConversationSettings settings_;
};

TEST_F(TakenBackConversation, HasTheSameBitsInAnotherProcess) {
  const std::string file = folder_.file("a.chat");
  for (const PolicyKind kind : {PolicyKind::kFull, PolicyKind::kSep, PolicyKind::kSink,
                                PolicyKind::kSepStream, PolicyKind::kSinkStream}) {
    for (const DType kv : {DType::kF32, DType::kF16, DType::kI8}) {
      for (const int64_t seed : {1, 2, 3}) {
        set(kind, kv, seed);
        SCOPED_TRACE(std::string(policy_name(kind)) + " " + dtype_name(kv) + " " + std::to_string(seed));
        Conversation here(*model_, ctx_, settings_);
        std::vector<std::string> before;  // the bits before each turn
        for (const char* text : {"One, two.", "Three. Four; five.", "Six!", "Seven, eight. Nine."}) {
          before.push_back(bits(here));
          say(here, text);
        }
        here.save(file);
        Conversation there(*model_, ctx_, settings_);
        say(there, "Something else.");
        there.load(file);
        EXPECT_TRUE(bits(here) == bits(there));
        EXPECT_EQ(retry(here), retry(there));
        EXPECT_TRUE(bits(here) == bits(there));
        for (int turn = 3; turn >= 1; --turn) {
          EXPECT_EQ(here.undo(), there.undo());
          EXPECT_TRUE(bits(there) == before[static_cast<size_t>(turn)]) << "turn " << turn;
          EXPECT_TRUE(bits(here) == bits(there)) << "turn " << turn;
        }
        EXPECT_EQ(say(here, "And so on."), say(there, "And so on."));
        EXPECT_EQ(retry(here), retry(there));
        EXPECT_TRUE(bits(here) == bits(there));
      }
    }
  }
}

// Before version 2, a saved conversation had no template, no clock, and only a part of what was said before a
// turn.
TEST_F(TakenBackConversation, OfAnotherVersionIsRefusedClearly) {
  const std::string file = folder_.file("a.chat");
  set(PolicyKind::kSep, DType::kF32, 1);
  Conversation here(*model_, ctx_, settings_), there(*model_, ctx_, settings_);
  say(here, "One, two.");
  say(there, "Something else.");
  const std::string before = bits(there);
  for (const auto& [version, message] :
       {std::pair{1, "a conversation of an older version of sepllm (expected version 2, got 1)"},
        {3, "a conversation of a newer version of sepllm (expected version 2, got 3)"}}) {
    here.save(file);
    test::rewrite_state(file, [version = version](Json& header) {
      if (version == 1) {
        header["extra"].erase("version");
      } else {
        header["extra"]["version"] = version;
      }
    });
    test::expect_error(
        [&] { there.load(file); }, ErrorCode::kUnsupported,
        {file, message, "sepllm " + build_version() + " (commit ", "wrote it and can continue it"});
    EXPECT_TRUE(bits(there) == before);
    EXPECT_EQ(there.n_turns(), 1);
  }
}

}  // namespace
}  // namespace sepllm
