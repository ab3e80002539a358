// The parts of `sepllm tune` whose results can be computed by hand.
#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <vector>

#include "apps/tuning/candidates.h"
#include "apps/tuning/layer_search.h"
#include "apps/tuning/separator_attention.h"
#include "apps/tuning/trials.h"
#include "apps/tuning/tune_run.h"
#include "engine/session.h"
#include "model/random_model.h"
#include "tests/support/support.h"

namespace sepllm {
namespace {

TEST(TuneScores, DifferencesArePairedOverBlocksOf64Tokens) {
  TuneScore a, b;
  // Blocks whose differences are 1, 2, 3 and 4: mean 2.5, standard deviation sqrt(5 / 3), error that by
  // sqrt(4).
  for (int block = 1; block <= 4; ++block) {
    for (int t = 0; t < 64; ++t) {
      a.tokens.push_back(10.0 + block + (t % 2 == 0 ? 3 : -3));
      b.tokens.push_back(10.0);
    }
  }
  a.nll = 12.5;
  b.nll = 10.0;
  const PairedDifference d = paired_difference(a, b);
  EXPECT_DOUBLE_EQ(d.mean, 2.5);
  EXPECT_NEAR(d.standard_error, std::sqrt(5.0 / 3.0) / 2.0, 1e-12);
}

TEST(TuneScores, TheErrorOfOneBlockIsUnknown) {
  TuneScore a, b;
  a.tokens.resize(127, 2.0);
  b.tokens.resize(127, 1.0);
  a.nll = 2.0;
  b.nll = 1.0;
  const PairedDifference d = paired_difference(a, b);
  EXPECT_EQ(d.mean, 1.0);
  EXPECT_TRUE(std::isnan(d.standard_error));
  EXPECT_EQ(d.error_text(), "unknown");
}

TEST(TuneScores, TheBudgetIsTheNearestOfItsLimits) {
  const TuneBudget budget{.share = 0.25, .keys = 100, .bytes = 1000};
  EXPECT_DOUBLE_EQ(budget.used({.mean_keys = 50, .share = 0.05, .bytes = 900}), 0.9);
  EXPECT_DOUBLE_EQ(budget.used({.mean_keys = 50, .share = 0.3, .bytes = 900}), 1.2);
  EXPECT_DOUBLE_EQ(TuneBudget{}.used({.mean_keys = 50, .share = 0.3, .bytes = 900}), 0);
}

TEST(TuneSeparators, TheBestHalfMakesUpHalfOfTheOccurrences) {
  EXPECT_EQ(best_half({{7, 2, 3.0}, {5, 4, 2.0}, {9, 6, 1.0}}), "ids:7,5");
  EXPECT_EQ(best_half({{7, 1, 3.0}}), "");  // all of them
  EXPECT_EQ(best_half({}), "");
}

class TuneModel : public testing::Test {
 protected:
  TuneModel() {
    write_random_model(folder_.path(), {.variant = "llama", .seed = 3, .hidden_size = 32, .n_layers = 4});
    model_ = std::make_unique<Model>(load_model(folder_.path(), ""));
    std::vector<int32_t> piece;
    for (int k = 0; k < 100; ++k) piece.push_back(k % 5 == 4 ? '.' : 'a' + k % 7);
    pieces_.pieces = {piece};
    space_.context = 100;
    space_.base.policy.init = 2;
  }
  static bool go_on() { return false; }

  test::TemporaryFolder folder_;
  std::unique_ptr<Model> model_;
  ThreadPool pool_{1};
  Arena arena_;
  Context context_{pool_, arena_};
  TunePieces pieces_;
  TuneSpace space_;
};

TEST_F(TuneModel, CostsAreThoseOfTheMask) {
  const Trials trials(*model_, context_, pieces_);
  for (const PolicyKind kind : {PolicyKind::kFull, PolicyKind::kSep, PolicyKind::kSink, PolicyKind::kFixed}) {
    PolicySettings settings = space_.sized(kind, 9);
    settings.policy.layer_policy = {{1, {PolicyKind::kFull}}, {-1, {PolicyKind::kSep, 3}}};
    const TokenSet separators = model_->separators(settings);
    int64_t pairs = 0, slots = 0;
    for (int64_t l = 0; l < 4; ++l) {
      const Pattern p = settings.policy.pattern(pieces_.pieces[0].data(), 100, separators, l, 4);
      pairs += p.visible_pairs(100);
      for (int64_t j = 0; j < 100; ++j) slots += p.visible(99, j) ? 1 : 0;
    }
    const TuneCost cost = trials.cost(settings);
    EXPECT_NEAR(cost.mean_keys, static_cast<double>(pairs) / 400, 1e-9) << policy_name(kind);
    EXPECT_NEAR(cost.share, static_cast<double>(pairs) / (4 * 5050), 1e-9);
    EXPECT_EQ(cost.bytes,
              slots * KvCache(model_->decoder.kv_layout(DType::kF32), Policy(), TokenSet()).slot_bytes());
  }
}

TEST_F(TuneModel, CandidatesTakeAllOfTheBudgetAndNoMore) {
  const Trials trials(*model_, context_, pieces_);
  const int64_t full_bytes = trials.cost(space_.with_kind(PolicyKind::kFull)).bytes;
  for (const TuneBudget& budget : {TuneBudget{.share = 0.5}, {.keys = 24}, {.bytes = full_bytes / 2}}) {
    const std::vector<TunePolicy> candidates = uniform_candidates(space_, budget, trials);
    EXPECT_GE(candidates.size(), 6U);
    for (TunePolicy c : candidates) {
      EXPECT_LE(budget.used(trials.cost(c.settings)), 1) << c.name;
      ++(c.settings.policy.kind == PolicyKind::kSinkStream ? c.settings.policy.capacity
                                                           : c.settings.policy.window);
      if (c.settings.policy.kind == PolicyKind::kSepStream) continue;  // its numbers grow together
      EXPECT_GT(budget.used(trials.cost(c.settings)), 1) << c.name;
    }
  }
}

// The search never returns what is worse than its start or does not fit, and stops when it is told to.
TEST_F(TuneModel, TheSearchKeepsTheBudgetAndTheBest) {
  const Trials trials(*model_, context_, pieces_);
  const TuneBudget budget{.share = 0.4};
  int n_measured = 0, most = 1000;
  const SearchEvents events{.measured = [&](const std::string&, double) { ++n_measured; },
                            .stop = [&] { return n_measured >= most; }};
  TuneTrial start{.policy = uniform_candidates(space_, budget, trials)[0]};
  start.cost = trials.cost(start.policy.settings);
  start.score = trials.score(start.policy.settings, go_on);
  const LayerSearch search{
      .space = space_, .budget = budget, .trials = trials, .layers = {0, 1, 2, 3}, .events = events};
  std::vector<LayerEffect> effects;
  std::vector<TuneTrial> tried;
  const TuneTrial found = search.run(start, &effects, &tried);
  EXPECT_EQ(effects.size(), 4U);
  EXPECT_LE(n_measured, search.most_measurements());
  EXPECT_LE(found.score.nll, start.score.nll);
  EXPECT_GE(tried.size(), 1U);
  for (const TuneTrial& t : tried) {
    EXPECT_LE(budget.used(t.cost), 1) << t.policy.name;
    EXPECT_GE(t.score.nll, found.score.nll) << t.policy.name;
    EXPECT_FALSE(t.policy.settings.policy.layer_policy.empty());
  }
  effects.clear();
  n_measured = 0;
  most = 3;
  search.run(start, &effects, &tried);
  EXPECT_EQ(n_measured, 3);
  TuneReport report;
  report.effects = effects;
  report.search.resize(2);
  EXPECT_EQ(report.n_measured(), 2 + 3) << "what was not measured is not counted";
}

}  // namespace
}  // namespace sepllm
