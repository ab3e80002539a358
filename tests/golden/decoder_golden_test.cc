// Compares every family and variant with what transformers computes from the same checkpoint (README.md
// here).
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "model/families/family.h"
#include "tests/support/golden.h"

namespace sepllm::test {
namespace {

constexpr float kTolerance = 1e-4F;

class DecoderGolden : public testing::TestWithParam<std::string> {
 protected:
  DecoderGolden()
      : runner_(golden_model(GetParam())),
        golden_(golden_model(GetParam()) + "/golden.safetensors"),
        settings_(read_json(golden_model(GetParam()) + "/golden.json")),
        separators_(golden_separators(settings_["separators"], runner_.vocab_size())) {}

  // The chosen rows of logits of the whole sequence.
  Logits rows(const Logits& logits) const {
    Logits out;
    const auto n = static_cast<size_t>(runner_.vocab_size());
    for (const int32_t r : golden_.ints("rows")) {
      const float* row = logits.data() + static_cast<size_t>(r) * n;
      out.insert(out.end(), row, row + n);
    }
    return out;
  }

  Runner runner_;
  GoldenFile golden_;
  Json settings_;
  TokenSet separators_;
};

TEST_P(DecoderGolden, LogitsOfTheWholeSequence) {
  for (const auto& [name, settings] : settings_["policies"].items()) {
    const Logits logits = runner_.whole(golden_.ints("ids"), golden_policy(settings), separators_);
    EXPECT_LE(max_difference(rows(logits), golden_.floats("logits_" + name)), kTolerance) << name;
  }
}

TEST_P(DecoderGolden, LogitsThroughTheCache) {
  for (const auto& [name, settings] : settings_["policies"].items()) {
    Policy policy = golden_policy(settings);
    policy.rope_length = static_cast<int64_t>(golden_.ints("ids").size());
    KvCache cache = runner_.cache(policy, separators_);
    const Logits logits = runner_.chunked(golden_.ints("ids"), cache, 13);
    EXPECT_LE(max_difference(rows(logits), golden_.floats("logits_" + name)), kTolerance) << name;
  }
}

TEST_P(DecoderGolden, GreedyTokens) {
  const auto vocab = static_cast<size_t>(runner_.vocab_size());
  const auto n_prompt = settings_["prompt_tokens"].get<size_t>();
  for (const auto& [name, settings] : settings_["policies"].items()) {
    KvCache cache = runner_.cache(golden_policy(settings), separators_);
    std::vector<int32_t> ids;
    Logits logits = runner_.chunked(golden_.ints("ids").first(n_prompt), cache, 512);
    const std::span<const int32_t> expected = golden_.ints("greedy_" + name);
    while (ids.size() < expected.size()) {
      const float* last = logits.data() + logits.size() - vocab;
      ids.push_back(static_cast<int32_t>(std::max_element(last, last + vocab) - last));
      logits = runner_.chunked({&ids.back(), 1}, cache, 1);
    }
    EXPECT_TRUE(std::equal(ids.begin(), ids.end(), expected.begin(), expected.end())) << name;
  }
}

// Documents packed into one sequence do not influence each other: each behaves as if it ran separately.
// (Their positions continue, which makes no difference for rotary and ALiBi positions.)
TEST_P(DecoderGolden, DocumentsOfOneSequenceKeepApart) {
  if (runner_.decoder().config().position == PositionType::kLearned) {
    GTEST_SKIP() << "learned positions tell where in the sequence a document lies";
  }
  if (runner_.decoder().config().rope_by_length() != nullptr) {
    GTEST_SKIP() << "the frequencies are those of the whole sequence's length";
  }
  const std::span<const int32_t> ids = golden_.ints("ids");
  const std::vector<int64_t> starts = {0, 37, 38, 70};
  for (const auto& [name, settings] : settings_["policies"].items()) {
    const Policy policy = golden_policy(settings);
    std::vector<Pattern> packed = runner_.patterns(ids, policy, separators_);
    for (Pattern& p : packed) {
      p.extra.clear();  // each document's own, shifted to its place
      p.document_starts = starts;
    }
    Logits apart;
    for (size_t d = 0; d < starts.size(); ++d) {
      const auto first = static_cast<size_t>(starts[d]);
      const size_t end = d + 1 < starts.size() ? static_cast<size_t>(starts[d + 1]) : ids.size();
      const std::span<const int32_t> document = ids.subspan(first, end - first);
      const Logits logits = runner_.whole(document, policy, separators_);
      apart.insert(apart.end(), logits.begin(), logits.end());
      const std::vector<Pattern> own = runner_.patterns(document, policy, separators_);
      for (size_t l = 0; l < packed.size(); ++l) {
        for (const int64_t j : own[l].extra) packed[l].extra.push_back(starts[d] + j);
      }
    }
    const Sequence sequence{.tokens = ids, .patterns = packed};
    EXPECT_LE(max_difference(runner_.batch({&sequence, 1}), apart), kTolerance) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(Models, DecoderGolden, testing::ValuesIn(golden_models()),
                         [](const auto& info) { return info.param; });

TEST(DecoderGolden, AllFamiliesAreThere) {
  std::set<std::string> there;
  for (const std::string& name : golden_models())
    there.insert(read_model_spec(golden_model(name)).config.family);
  for (const Family* family : families()) EXPECT_TRUE(there.contains(family->name)) << family->name;
}

}  // namespace
}  // namespace sepllm::test
