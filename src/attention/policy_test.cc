#include "attention/policy.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/error.h"
#include "tests/support/expect_error.h"

namespace sepllm {
namespace {

using Flags = std::vector<std::pair<std::string, std::string>>;

struct Parsed {
  PolicySettings settings;
  OptionSet options;
  explicit Parsed(const Flags& flags, const Json& config = Json()) {
    declare_policy_options(&options, &settings);
    for (const auto& [name, value] : flags) options.set(name, value);
    finish_policy_options(&options, &settings, config, "config.json");
  }
};

std::string error_of(const Flags& flags, const Json& config = Json()) {
  try {
    const Parsed parsed(flags, config);
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

TEST(Policy, ReadsFlagsAndPrintsThemBack) {
  const Parsed p(
      {{"policy", "sep"}, {"init", "3"}, {"window", "64"}, {"layer-window", "0=full,-1=128"}, {"kv", "f16"}});
  EXPECT_EQ(
      policy_json(p.settings).dump(),
      R"({"policy":"sep","init":3,"window":64,"layer-window":"-1=128,0=full","separators":"text","positions":"original","kv":"f16","prefill-chunk":512})");
  EXPECT_EQ(p.settings.policy.window_of(0, 4), kUnlimited);
  EXPECT_EQ(p.settings.policy.window_of(1, 4), 64);
  EXPECT_EQ(p.settings.policy.window_of(3, 4), 128);
}

TEST(Policy, LayersMayHaveRulesOfTheirOwn) {
  const Parsed p({{"policy", "sep"},
                  {"window", "64"},
                  {"max-segment", "32"},
                  {"layer-policy", "0..1=full,3=fixed:16/4,4=sink,-1=sink:8"},
                  {"layer-window", "4=5"}});
  EXPECT_EQ(policy_json(p.settings)["layer-policy"], "-1=sink:8,0..1=full,3=fixed:16/4,4=sink");
  const Policy& policy = p.settings.policy;
  using Keeps = LayerRule::Keeps;
  EXPECT_EQ(policy.rule(1, 6), LayerRule{});
  EXPECT_EQ(policy.rule(2, 6),
            (LayerRule{.init = 4, .window = 64, .keeps = Keeps::kSeparators, .max_segment = 32}));
  EXPECT_EQ(policy.rule(3, 6),
            (LayerRule{.init = 4, .window = 16, .keeps = Keeps::kInterval, .interval = 4}));
  EXPECT_EQ(policy.rule(4, 6), (LayerRule{.init = 4, .window = 5}));
  EXPECT_EQ(policy.rule(5, 6), (LayerRule{.init = 4, .window = 8}));
  EXPECT_TRUE(policy.uses_separators());
  // The layers of `full` that have another rule need that rule's numbers.
  const Parsed full({{"policy", "full"}, {"layer-policy", "1=sep:9"}, {"init", "2"}, {"max-segment", "5"}});
  EXPECT_TRUE(full.settings.policy.uses_separators());
  EXPECT_EQ(full.settings.policy.rule(0, 2), LayerRule{});
  EXPECT_EQ(full.settings.policy.rule(1, 2),
            (LayerRule{.init = 2, .window = 9, .keeps = Keeps::kSeparators, .max_segment = 5}));
  EXPECT_EQ(policy_json(Parsed(Flags{}, policy_json(full.settings)).settings), policy_json(full.settings));
  // A policy chosen by flag takes the place of the config's, also in its layers.
  EXPECT_TRUE(Parsed({{"policy", "sink"}}, policy_json(p.settings)).settings.policy.layer_policy.empty());
  EXPECT_THROW(policy.validate_layers(4), Error);
  EXPECT_NO_THROW(policy.validate_layers(6));
}

TEST(Policy, LayersMayChooseAmongBlocks) {
  const Parsed p({{"policy", "sep-moba"},
                  {"block-size", "16"},
                  {"blocks", "5"},
                  {"max-block", "40"},
                  {"layer-policy", "0=full,1=moba,2=moba:32/3,-1=sink:8"}});
  const Policy& policy = p.settings.policy;
  EXPECT_TRUE(policy.uses_separators());
  EXPECT_EQ(policy_json(p.settings)["layer-policy"], "-1=sink:8,0=full,1=moba,2=moba:32/3");
  EXPECT_EQ(policy_json(Parsed(Flags{}, policy_json(p.settings)).settings), policy_json(p.settings));
  EXPECT_EQ(policy.rule(0, 6), LayerRule{});
  EXPECT_EQ(policy.rule(1, 6), (LayerRule{.blocks = {.count = 5, .size = 16}}));
  EXPECT_EQ(policy.rule(2, 6), (LayerRule{.blocks = {.count = 3, .size = 32}}));
  EXPECT_EQ(policy.rule(3, 6),
            (LayerRule{.blocks = {.count = 5, .size = 16, .at_separators = true, .most = 40}}));
  EXPECT_EQ(policy.rule(5, 6), (LayerRule{.init = 4, .window = 8}));
  const Parsed plain(Flags{{"policy", "moba"}});
  EXPECT_FALSE(plain.settings.policy.uses_separators());
  EXPECT_EQ(
      policy_json(plain.settings).dump(),
      R"({"policy":"moba","block-size":64,"blocks":8,"positions":"original","kv":"f32","prefill-chunk":512})");
}

TEST(Policy, NativeSparseAttention) {
  const Parsed p(
      {{"policy", "full"}, {"window", "9"}, {"blocks", "5"}, {"layer-policy", "1=nsa,2=nsa:16/3"}});
  const Policy& policy = p.settings.policy;
  EXPECT_EQ(policy_json(Parsed(Flags{}, policy_json(p.settings)).settings), policy_json(p.settings));
  EXPECT_EQ(policy.rule(0, 4), LayerRule{});
  EXPECT_EQ(policy.rule(1, 4), (LayerRule{.blocks = {.count = 5, .size = 64, .nsa_window = 9}}));
  EXPECT_EQ(policy.rule(2, 4), (LayerRule{.blocks = {.count = 3, .size = 16, .nsa_window = 9}}));
  EXPECT_EQ(policy.rule(2, 4, 7), (LayerRule{.window = 7, .own_window = true}));
  const Parsed plain(Flags{{"policy", "nsa"}});
  EXPECT_FALSE(plain.settings.policy.uses_separators());
  EXPECT_EQ(
      policy_json(plain.settings).dump(),
      R"({"policy":"nsa","window":256,"block-size":64,"blocks":8,"positions":"original","kv":"f32","prefill-chunk":512})");
  // Pairs of the three branches, in two documents of 7 and 5 tokens.
  Policy nsa;
  nsa.kind = PolicyKind::kNsa;
  nsa.block_size = 2;
  nsa.blocks = 3;
  nsa.window = 2;
  const std::vector<int32_t> tokens(12, 1);
  const Pattern pattern = nsa.pattern(tokens.data(), 12, TokenSet(4), 0, 1, {0, 7});
  const int64_t means = (0 + 1 + 1 + 2 + 2 + 3 + 3) + (0 + 1 + 1 + 2 + 2);
  const int64_t selected = (1 + 2 + 3 + 4 + 5 + 6 + 5) + (1 + 2 + 3 + 4 + 5);
  EXPECT_EQ(pattern.visible_pairs(12), means + selected + (1 + 6 * 2) + (1 + 4 * 2));
  EXPECT_THROW(pattern.visible(3, 2), CheckFailure);
}

// The blocks written out: when one ends, and that documents begin one.
TEST(Policy, BlocksOfTokens) {
  TokenSet set(10);
  set.insert(7);
  const std::vector<int32_t> tokens = {1, 7, 1, 1, 7, 1, 1, 1, 1, 1, 7, 7, 7, 1, 7, 1};
  Policy p;
  p.kind = PolicyKind::kMoba;
  p.block_size = 5;
  p.blocks = 2;
  const auto starts = [&](const std::vector<int64_t>& documents) {
    return p.pattern(tokens.data(), std::ssize(tokens), set, 0, 1, documents).blocks.starts;
  };
  using List = std::vector<int64_t>;
  EXPECT_EQ(starts({}), (List{0, 5, 10, 15}));
  EXPECT_EQ(starts({0, 7, 12}), (List{0, 5, 7, 12}));
  p.kind = PolicyKind::kSepMoba;
  p.block_size = 3;
  p.max_block = 5;
  // 7 ends a block from the third token on; the fifth ends it in any case.
  EXPECT_EQ(starts({}), (List{0, 5, 10, 13}));
  EXPECT_EQ(starts({4}), (List{0, 4, 9, 12, 15}));
  p.max_block = 0;  // twice the size
  EXPECT_EQ(starts({}), (List{0, 5, 11, 15}));
  // Two blocks: their own up to the query, and one of those before it.
  p.kind = PolicyKind::kMoba;
  p.block_size = 4;
  const Pattern pattern = p.pattern(tokens.data(), 10, set, 0, 1, {0, 6});
  EXPECT_EQ(pattern.visible_pairs(10), 1 + 2 + 3 + 4 + 5 + 6 + 1 + 2 + 3 + 4);
  EXPECT_THROW(pattern.visible(3, 2), CheckFailure);
}

TEST(Policy, AWindowOfALayerMustNotContradictItsRule) {
  const auto check = [](const char* kind, const char* rules, const char* windows) {
    Parsed({{"policy", kind}, {"layer-policy", rules}, {"layer-window", windows}})
        .settings.policy.validate_layers(6, {}, "p.json");
  };
  EXPECT_NO_THROW(check("sep", "4=sink,5=full", "4=5,5=full,0=3"));
  EXPECT_NO_THROW(check("sink", "4=sep:9", "4=9"));
  for (const auto& [kind, rules, windows, layer] : {std::tuple("sink", "4=sep:9", "-2=8", "4"),
                                                    {"sep", "0..2=full", "1=7", "1"},
                                                    {"full", "0=sep:3", "1=7", "1"}}) {
    test::expect_error([&, k = kind, r = rules, w = windows] { check(k, r, w); }, ErrorCode::kInvalidArgument,
                       {"p.json", "contradict", std::string("layer ") + layer});
  }
}

TEST(Policy, WhatIsPrintedReadsBackAsTheSame) {
  for (const char* kind : {"full", "sep", "sep-stream", "sink", "sink-stream", "fixed"}) {
    const Parsed first(Flags{{"policy", kind}});
    const Json printed = policy_json(first.settings);
    const Parsed second(Flags{}, printed);
    EXPECT_EQ(policy_json(second.settings), printed) << kind;
  }
}

TEST(Policy, StreamingDefaultsToCachePositions) {
  EXPECT_EQ(Parsed(Flags{{"policy", "sep-stream"}}).settings.policy.positions, PositionMode::kCache);
  EXPECT_EQ(Parsed(Flags{{"policy", "sep-stream"}, {"positions", "original"}}).settings.policy.positions,
            PositionMode::kOriginal);
  EXPECT_EQ(Parsed(Flags{{"policy", "sep"}}).settings.policy.positions, PositionMode::kOriginal);
}

TEST(Policy, FlagsWinOverTheConfig) {
  const Json config = {{"policy", "sep"}, {"window", 64}, {"init", 3}};
  EXPECT_EQ(Parsed(Flags{}, config).settings.policy.window, 64);
  EXPECT_EQ(Parsed(Flags{{"window", "16"}}, config).settings.policy.window, 16);
  // A policy chosen by flag takes the settings that apply to it and ignores the rest.
  const Parsed other(Flags{{"policy", "sink-stream"}}, config);
  EXPECT_EQ(other.settings.policy.kind, PolicyKind::kSinkStream);
  EXPECT_EQ(other.settings.policy.init, 3);
  EXPECT_EQ(other.settings.policy.capacity, 800);
  const Parsed still(Flags{{"policy", "sep"}},
                     {{"policy", "sep-stream"}, {"positions", "cache"}, {"init", 3}});
  EXPECT_EQ(still.settings.policy.positions, PositionMode::kOriginal);
  EXPECT_EQ(still.settings.policy.init, 3);
  // The positions in the config of a model trained under `sep` are not meant for streams.
  const Parsed stream(Flags{{"policy", "sep-stream"}}, policy_json(Parsed(Flags{}, config).settings));
  EXPECT_EQ(stream.settings.policy.positions, PositionMode::kCache);
  const Parsed original(Flags{{"policy", "sink-stream"}},
                        {{"policy", "sep-stream"}, {"positions", "original"}});
  EXPECT_EQ(original.settings.policy.positions, PositionMode::kOriginal);
}

TEST(Policy, RefusesWhatDoesNotFit) {
  const std::vector<std::pair<Flags, std::string>> cases = {
      {{{"policy", "sink-stream"}, {"window", "64"}}, "window does not apply to policy sink-stream"},
      {{{"policy", "sink-stream"}, {"seps", "64"}}, "seps does not apply"},
      {{{"policy", "sep-stream"}, {"layer-window", "0=full"}}, "layer-window does not apply"},
      {{{"policy", "sep"}, {"positions", "cache"}}, "streaming policies only"},
      {{{"policy", "sep-stream"}, {"capacity", "324"}}, "must be below capacity"},
      {{{"policy", "sink-stream"}, {"capacity", "4"}}, "init must be below capacity"},
      {{{"policy", "sep"}, {"window", "0"}}, "window"},
      {{{"policy", "sep"}, {"init", "-1"}}, "init"},
      {{{"policy", "sep-stream"}, {"seps", "-1"}}, "seps"},
      {{{"policy", "sep-stream"}, {"capacity", "99999999999999999999"}}, "capacity"},
      {{{"policy", "nosuch"}}, "policy"},
      {{{"policy", "sep"}, {"layer-window", "0=full,0=3"}}, "each layer once"},
      {{{"policy", "sep"}, {"layer-window", "x"}}, "layer-window"},
      {{{"kv", "q7"}}, "kv"},
      {{{"policy", "sep-stream"}, {"layer-policy", "0=full"}}, "layer-policy does not apply"},
      {{{"policy", "sep"}, {"layer-policy", "0..2=full,1=sink"}}, "each layer once"},
      {{{"policy", "sep"}, {"layer-policy", "0=sep-stream"}}, "layer-policy"},
      {{{"policy", "sep"}, {"layer-policy", "2..0=full"}}, "layer-policy"},
      {{{"policy", "sep"}, {"layer-policy", "-1..0=full"}}, "layer-policy"},
      {{{"policy", "sep"}, {"layer-policy", "0..99999999999=full"}}, "layer-policy"},
      {{{"policy", "sep"}, {"layer-policy", "0=full:3"}}, "layer-policy"},
      {{{"policy", "sep"}, {"layer-policy", "0=sink:0"}}, "layer-policy"},
      {{{"policy", "sep"}, {"layer-policy", "0=sink:4/2"}}, "layer-policy"},
      {{{"policy", "sep"}, {"layer-policy", "0"}}, "layer-policy"},
      {{{"policy", "sink"}, {"max-segment", "8"}}, "max-segment does not apply"},
      {{{"policy", "sep"}, {"interval", "8"}}, "interval does not apply"},
      {{{"policy", "moba"}, {"block-size", "0"}}, "block-size"},
      {{{"policy", "moba"}, {"blocks", "0"}}, "blocks"},
      {{{"policy", "moba"}, {"window", "8"}}, "window does not apply"},
      {{{"policy", "moba"}, {"init", "4"}}, "init does not apply"},
      {{{"policy", "moba"}, {"layer-window", "0=full"}}, "layer-window does not apply"},
      {{{"policy", "moba"}, {"max-block", "99"}}, "max-block does not apply"},
      {{{"policy", "sep-moba"}, {"block-size", "64"}, {"max-block", "63"}}, "max-block"},
      {{{"policy", "moba"}, {"positions", "cache"}}, "streaming policies only"},
      {{{"policy", "sep"}, {"block-size", "8"}}, "block-size does not apply"},
      {{{"policy", "sep"}, {"layer-policy", "0=moba:0/3"}}, "layer-policy"},
      {{{"policy", "sep"}, {"layer-policy", "0=moba:8/0"}}, "layer-policy"},
      {{{"policy", "sep"}, {"layer-policy", "0=moba:8/2/1"}}, "layer-policy"},
      {{{"policy", "nsa"}, {"blocks", "2"}}, "blocks"},
      {{{"policy", "nsa"}, {"window", "0"}}, "window"},
      {{{"policy", "nsa"}, {"init", "4"}}, "init does not apply"},
      {{{"policy", "nsa"}, {"max-block", "9"}}, "max-block does not apply"},
      {{{"policy", "nsa"}, {"layer-window", "0=full"}}, "layer-window does not apply"},
      {{{"policy", "full"}, {"layer-policy", "0=nsa:8/2"}}, "layer-policy"},
  };
  for (const auto& [flags, expected] : cases)
    EXPECT_NE(error_of(flags).find(expected), std::string::npos) << expected << " / " << error_of(flags);
  EXPECT_NE(error_of({}, {{"windw", 3}}).find("did you mean 'window'"), std::string::npos);
  EXPECT_NE(error_of({}, Json("sep")).find("expected a JSON object"), std::string::npos);
}

TEST(Policy, KeepsInitialSeparatorsAndIntervals) {
  TokenSet set(10);
  set.insert(7);
  Policy p;
  p.kind = PolicyKind::kSep;
  p.init = 2;
  EXPECT_TRUE(p.rule(0, 1).stays(1, 3, set, 0));
  EXPECT_FALSE(p.rule(0, 1).stays(2, 3, set, 1));
  EXPECT_TRUE(p.rule(0, 1).stays(9, 7, set, 1));
  p.kind = PolicyKind::kSink;
  EXPECT_FALSE(p.rule(0, 1).stays(9, 7, set, 1));
  p.kind = PolicyKind::kFixed;
  p.interval = 3;  // (j - a + 1) mod k = 0
  std::vector<int64_t> kept;
  for (int64_t j = 0; j < 12; ++j) {
    if (p.rule(0, 1).stays(j, 0, set, -1)) kept.push_back(j);
  }
  EXPECT_EQ(kept, (std::vector<int64_t>{0, 1, 4, 7, 10}));
}

// docs/METHOD.md#visibility, written out: of a segment without separators every k-th token is kept. A segment
// begins after a separator, after the initial tokens, and after a token that was kept because of its length.
TEST(Policy, LongSegmentsKeepEveryKthToken) {
  TokenSet set(10);
  set.insert(7);
  const std::vector<int32_t> tokens = {7, 1, 1, 1, 7, 1, 1, 1, 1, 1, 1, 1, 1, 7, 7, 1, 1, 1, 1};
  const auto n = std::ssize(tokens);
  Policy p;
  p.kind = PolicyKind::kSep;
  p.window = 2;
  p.max_segment = 3;
  for (const auto& [init, kept] : {std::pair{0, std::vector<int64_t>{0, 3, 4, 7, 10, 13, 14, 17}},
                                   {2, {0, 1, 4, 7, 10, 13, 14, 17}},
                                   {6, {0, 1, 2, 3, 4, 5, 8, 11, 13, 14, 17}}}) {
    p.init = init;
    EXPECT_EQ(p.pattern(tokens.data(), n, set, 0, 1).kept(n), kept) << init;
  }
  p.init = 0;
  for (int64_t k = 1; k < 8; ++k) {
    p.max_segment = k;
    const Pattern pattern = p.pattern(tokens.data(), n, set, 0, 1);
    int64_t length = 0;  // of the segment up to here
    for (int64_t j = 0; j < n; ++j) {
      ++length;
      const bool ends = tokens[static_cast<size_t>(j)] == 7 || length == k;
      if (ends) length = 0;
      for (int64_t i = 0; i < n; ++i) EXPECT_EQ(pattern.visible(i, j), j <= i && (ends || i - j < 2));
    }
  }
}

// With documents, every policy shows in each document the same keys as if that document were a text of its
// own. The interval of `fixed`, too, counts from where the document begins.
TEST(Policy, DocumentsAreTextsOfTheirOwn) {
  TokenSet set(10);
  set.insert(7);
  constexpr int64_t kTokens = 61;
  std::vector<int32_t> tokens;
  for (int64_t j = 0; j < kTokens; ++j) tokens.push_back(static_cast<int32_t>(j * j % 10));
  for (const PolicyKind kind : {PolicyKind::kFull, PolicyKind::kSep, PolicyKind::kSink, PolicyKind::kFixed}) {
    for (const auto& starts : {std::vector<int64_t>{0}, {0, 17}, {0, 1, 20, 21, 45}, {13, 30}}) {
      Policy p;
      p.kind = kind;
      p.init = 2;
      p.window = 5;
      p.interval = 3;
      p.max_segment = static_cast<int64_t>(starts.size()) - 1;
      const Pattern all = p.pattern(tokens.data(), kTokens, set, 0, 1, starts);
      std::vector<int64_t> begins = starts;
      if (begins.front() != 0) begins.insert(begins.begin(), 0);
      begins.push_back(kTokens);
      for (size_t d = 0; d + 1 < begins.size(); ++d) {
        const int64_t begin = begins[d], n = begins[d + 1] - begin;
        const Pattern own = p.pattern(tokens.data() + begin, n, set, 0, 1);
        for (int64_t i = 0; i < n; ++i) {
          for (int64_t j = 0; j < kTokens; ++j) {
            const bool within = j >= begin && j < begin + n;
            ASSERT_EQ(all.visible(begin + i, j), within && own.visible(i, j - begin))
                << policy_name(kind) << " query " << begin + i << " key " << j;
          }
        }
      }
    }
  }
}

// A sliding window of the model's own stays what it is under every policy.
TEST(Policy, ALayersOwnWindowIsItsRule) {
  TokenSet separators(10);
  separators.insert(3);
  const LayerRule own{.window = 5, .own_window = true};
  for (const PolicyKind kind :
       {PolicyKind::kFull, PolicyKind::kSep, PolicyKind::kSepStream, PolicyKind::kSink,
        PolicyKind::kSinkStream, PolicyKind::kFixed, PolicyKind::kMoba, PolicyKind::kSepMoba}) {
    Policy p;
    p.kind = kind;
    EXPECT_EQ(p.rule(1, 4, 5), own) << policy_name(kind);
    EXPECT_NE(p.rule(1, 4), own) << policy_name(kind);
  }
  EXPECT_FALSE(own.stays(0, 3, separators, -1));
  const std::vector<int32_t> tokens(20, 3);
  const Pattern pattern = own.pattern(tokens.data(), 20, separators);
  EXPECT_TRUE(pattern.visible(10, 6));
  EXPECT_FALSE(pattern.visible(10, 5));
  EXPECT_FALSE(pattern.visible(10, 0));
}

TEST(Policy, LayerWindowsAreForLayersThatPoliciesRule) {
  Policy p;
  p.kind = PolicyKind::kSep;
  p.layer_window = {{-1, 9}};
  const std::vector<int64_t> first = {5, 0, 0}, last = {0, 0, 5};
  EXPECT_NO_THROW(p.validate_layers(3));
  EXPECT_NO_THROW(p.validate_layers(3, first));
  test::expect_error([&] { p.validate_layers(3, last); }, ErrorCode::kInvalidArgument,
                     {"names layer 2", "the model's own", "a window of 5"});
}

}  // namespace
}  // namespace sepllm
