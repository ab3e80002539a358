// Attention by a pattern, forward and backward, against its definition: random and degenerate patterns,
// shapes and layouts, on every instruction set. SEPLLM_TEST_SEED=N replays one random case, and
// SEPLLM_LONG_TESTS (./test --long) tries ten times as many.
#include "kernels/attention/pattern_attention.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "kernels/attention/pattern_attention_test_support.h"

namespace sepllm {
namespace {

using test::AttentionCase;
using test::AttentionShape;
using test::CaseOptions;
using test::QkvTensors;
using test::Random;

// This sanitizer looks for races, at a twentieth of the speed: a tenth of the cases is enough.
#ifdef __SANITIZE_THREAD__
constexpr bool kThreadSanitizer = true;
#else
constexpr bool kThreadSanitizer = false;
#endif

// Pools live as long as the tests: starting threads for each small case would take most of the time. Scratch
// memory begins as NaN, so that nothing is taken from it that was not written.
Context context(int n_threads, AttentionImpl impl = AttentionImpl::kSimd) {
  static std::map<int, std::unique_ptr<test::Threads>> all;
  std::unique_ptr<test::Threads>& threads = all[n_threads];
  if (!threads) threads = std::make_unique<test::Threads>(n_threads);
  const Arena::Scope scope(threads->arena);
  constexpr int64_t kBytes = int64_t{1} << 17;
  std::memset(threads->arena.allocate_bytes(kBytes), 0xFF, kBytes);
  return {threads->pool, threads->arena, impl};
}

// Scores of q and keys in [-key_size, key_size] reach about key_size. Beyond 10, the rounding of the scores,
// which is relative to their size, limits every result.
double slack(const CaseOptions& o) { return std::max(1.0, static_cast<double>(o.key_size) / 10); }

// The largest errors of a run in units of the tolerances: forward absolute, gradients relative to the largest
// gradient of their tensor, each divided by the case's slack.
struct Worst {
  double out = 0, log_sum_exp = 0, d_q = 0, d_k = 0, d_v = 0;
  int64_t patterns = 0;
  void record() const {
    for (const auto& [name, value] : {std::pair("out", out), std::pair("log_sum_exp", log_sum_exp),
                                      std::pair("d_q", d_q), std::pair("d_k", d_k), std::pair("d_v", d_v)})
      testing::Test::RecordProperty(std::string("worst_") + name, testing::PrintToString(value));
    testing::Test::RecordProperty("patterns", std::to_string(patterns));
  }
};

void expect_small(double error, double tolerance, const char* name, double* worst) {
  EXPECT_LE(error, tolerance) << name;
  *worst = std::max(*worst, error);
}

void expect_forward(const AttentionCase& c, const AttentionCase::Forward& f,
                    const AttentionCase::Forward& expected, Worst* worst) {
  const double unit = slack(c.options());
  const test::Difference out = test::difference(f.out, expected.out, c.rows());
  const test::Difference sums = test::difference(f.log_sum_exp, expected.log_sum_exp, c.rows());
  expect_small(out.worst / unit, 1e-5, "out", &worst->out);
  // The logarithms may be large (ALiBi keeps them small): a float's rounding is added.
  expect_small(sums.worst / unit / std::max(1.0, sums.largest / 10), 1e-5, "log_sum_exp",
               &worst->log_sum_exp);
  EXPECT_EQ(f.out.storage->damaged(), 0);
  EXPECT_EQ(f.log_sum_exp.storage->damaged(), 0);
}

// Relative to the largest gradient of the tensor, or to 1/100 of what it could be at most: where the softmax
// is one-hot, gradients are differences of equal numbers, and only rounding is left of them.
void expect_gradients(const AttentionCase& c, const QkvTensors& g, const QkvTensors& expected, Worst* worst) {
  const double unit = slack(c.options());
  const auto check = [&](const test::Tensor& a, const test::Tensor& b, double at_most, const char* name,
                         double* place) {
    const test::Difference d = test::difference(a, b, c.rows());
    expect_small(d.worst / unit / std::max(d.largest, at_most / 100), 1e-4, name, place);
  };
  check(g.q, expected.q, static_cast<double>(c.options().key_size), "d_q", &worst->d_q);
  check(g.k, expected.k, 1.0, "d_k", &worst->d_k);
  check(g.v, expected.v, 1.0, "d_v", &worst->d_v);
  EXPECT_EQ(g.damaged(), 0);
}

// Checks bits that must not depend on threads or chance, on the current instruction set.
void expect_same_bits(const AttentionCase& c, const AttentionCase::Forward& f) {
  for (const int threads : {1, 3}) {
    const AttentionCase::Forward again = c.forward(context(threads), pattern_attention);
    EXPECT_TRUE(again.out.storage->same_bits(*f.out.storage)) << threads << " threads";
    EXPECT_TRUE(again.log_sum_exp.storage->same_bits(*f.log_sum_exp.storage)) << threads << " threads";
    const QkvTensors first = c.backward(context(threads), pattern_attention_backward, f, false);
    const QkvTensors second = c.backward(context(threads), pattern_attention_backward, f, false);
    EXPECT_TRUE(first.same_bits(second)) << threads << " threads, again";
  }
  EXPECT_TRUE(c.forward(context(1), pattern_attention, false).out.storage->same_bits(*f.out.storage))
      << "without log_sum_exp";
  const QkvTensors one = c.backward(context(1), pattern_attention_backward, f, true);
  for (const int threads : {2, 3, 5}) {
    EXPECT_TRUE(c.backward(context(threads), pattern_attention_backward, f, true).same_bits(one))
        << "backward on " << threads << " threads";
  }
}

// Compares the fast kernels with the definition, on every instruction set.
void check(const AttentionCase& c, bool thorough, Worst* worst) {
  SCOPED_TRACE(c.describe());
  const AttentionCase::Forward expected = c.forward(context(3), pattern_attention_reference);
  const QkvTensors gradients = c.backward(context(3), pattern_attention_backward_reference, expected, false);
  test::for_each_target([&] {
    const AttentionCase::Forward f = c.forward(context(1), pattern_attention);
    expect_forward(c, f, expected, worst);
    expect_gradients(c, c.backward(context(1), pattern_attention_backward, f, false), gradients, worst);
    if (!thorough) return;
    for (const bool any_threads : {false, true})
      expect_gradients(c, c.backward(context(3), pattern_attention_backward, f, any_threads), gradients,
                       worst);
    expect_same_bits(c, f);
  });
  worst->patterns += static_cast<int64_t>(c.sequences().size());
}

// Calls fn(seed) for `n` seeds from `first` on, ten times as many in long runs; or for the one to replay.
// Ends at the first failure.
template <typename Fn>
void for_each_seed(uint32_t first, uint32_t n, const Fn& fn) {
  if (const char* only = std::getenv("SEPLLM_TEST_SEED"); only != nullptr) {
    fn(static_cast<uint32_t>(std::strtoul(only, nullptr, 10)));
    return;
  }
  if (std::getenv("SEPLLM_LONG_TESTS") != nullptr) n *= 10;
  if (kThreadSanitizer) n = (n + 9) / 10;
  for (uint32_t seed = first; seed < first + n && !testing::Test::HasFailure(); ++seed) fn(seed);
}

void add_random_sequences(CaseOptions* o, Random& rng, int64_t n, int64_t shortest, int64_t longest) {
  for (int64_t i = 0; i < n; ++i) {
    const int64_t length = test::draw(rng, shortest, longest);
    o->lengths.push_back(length);
    o->patterns.push_back(test::random_pattern(rng, std::max<int64_t>(1, length)));
  }
}

// Ten thousand patterns over short sequences, several in a call.
TEST(PatternAttention, ManyRandomPatterns) {
  Worst worst;
  constexpr AttentionShape kShapes[] = {{1, 1, 8},  {2, 2, 8},  {2, 1, 8},  {3, 1, 16}, {2, 1, 5},
                                        {4, 2, 8},  {1, 1, 16}, {1, 1, 1},  {1, 1, 20}, {6, 2, 8},
                                        {1, 1, 24}, {5, 1, 3},  {1, 1, 33}, {2, 1, 12}};
  for_each_seed(1'000'000, 2500, [&](uint32_t seed) {
    Random rng(seed);
    CaseOptions o{.shape = kShapes[test::draw(rng, 0, std::size(kShapes) - 1)],
                  .alibi = test::chance(rng, 25),
                  .seed = std::to_string(seed)};
    add_random_sequences(&o, rng, 3, 1, 14);
    add_random_sequences(&o, rng, 1, 0, 40);
    if (test::chance(rng, 15)) add_random_sequences(&o, rng, 1, 60, 130);
    check(AttentionCase(o, rng), seed % 10 == 0, &worst);
  });
  if (std::getenv("SEPLLM_TEST_SEED") == nullptr && !kThreadSanitizer && !HasFailure()) {
    EXPECT_GE(worst.patterns, 10'000);
  }
  worst.record();
}

// Head sizes, groups and lengths of models, and odd ones.
TEST(PatternAttention, RandomShapes) {
  Worst worst;
  constexpr int64_t kGroups[] = {1, 1, 2, 3, 4, 5, 7, 8};
  constexpr int64_t kDims[] = {8, 16, 24, 32, 40, 48, 64, 64, 80, 96, 128, 1, 20, 33, 65};
  for_each_seed(2'000'000, 60, [&](uint32_t seed) {
    Random rng(seed);
    const int64_t group = kGroups[test::draw(rng, 0, std::size(kGroups) - 1)];
    const int64_t n_kv = test::draw(rng, 1, std::max<int64_t>(1, 8 / group));
    CaseOptions o{.shape = {n_kv * group, n_kv, kDims[test::draw(rng, 0, std::size(kDims) - 1)]},
                  .alibi = test::chance(rng, 30),
                  .seed = std::to_string(seed)};
    // About the same work for all shapes: wide ones get short sequences.
    const int64_t longest = std::clamp<int64_t>(4000 / (o.shape.n_heads * 4 + o.shape.head_dim), 40, 300);
    add_random_sequences(&o, rng, test::draw(rng, 1, 3), 1, longest);
    check(AttentionCase(o, rng), true, &worst);
  });
  worst.record();
}

TEST(PatternAttention, LargestHeadsAndGroups) {
  Worst worst;
  constexpr AttentionShape kShapes[] = {{2, 1, 256}, {1, 1, 200}, {71, 1, 16}, {3, 3, 257}, {35, 5, 8}};
  uint32_t seed = 0;
  for (const AttentionShape& shape : kShapes) {
    Random rng(++seed);
    CaseOptions o{.shape = shape, .alibi = seed % 2 == 0, .seed = "of LargestHeadsAndGroups"};
    add_random_sequences(&o, rng, 2, 20, 110);
    check(AttentionCase(o, rng), true, &worst);
  }
  worst.record();
}

// Longer than all tiles of keys, both in the window and among kept keys.
TEST(PatternAttention, LongSequences) {
  Worst worst;
  for_each_seed(3'000'000, 5, [&](uint32_t seed) {
    Random rng(seed);
    CaseOptions o{.shape = {seed % 2 == 0 ? 1 : 2, 1, seed % 3 == 0 ? 16 : 8},
                  .alibi = seed % 2 == 1,
                  .seed = std::to_string(seed)};
    add_random_sequences(&o, rng, 1, 700, 2000);
    add_random_sequences(&o, rng, 2, 1, 50);
    check(AttentionCase(o, rng), true, &worst);
  });
  for (const int64_t window : {int64_t{1}, int64_t{64}, int64_t{700}, kUnlimited}) {
    Random rng(4);
    CaseOptions o{.shape = {1, 1, 8}, .seed = "of LongSequences"};
    o.lengths = {1100};
    o.patterns = {{.n_initial = 4, .extra = test::random_positions(rng, 1100, 0.165), .window = window}};
    check(AttentionCase(o, rng), false, &worst);
  }
  worst.record();
}

// Full, window only, no separators, everything a separator, window >= T, window 1, T = 1, one document a
// token, over lengths around the sizes of tiles.
TEST(PatternAttention, DegeneratePatterns) {
  Worst worst;
  uint32_t seed = 0;
  for (const int64_t n : {1, 2, 5, 6, 7, 12, 13, 16, 17, 31, 32, 33, 48, 64, 95, 96, 97, 193, 257}) {
    const std::vector<int64_t> all = test::every_kth(n, 1, 0);
    CaseOptions o{.shape = {3, 1, 16}, .alibi = n % 2 == 0, .seed = "of DegeneratePatterns"};
    for (const int64_t window : {int64_t{1}, int64_t{2}, n - 1, n, n + 1, kUnlimited}) {
      if (window < 1) continue;
      o.patterns.push_back({.window = window});
      o.patterns.push_back({.extra = all, .window = window});
      o.patterns.push_back({.n_initial = 4, .window = window});
      o.patterns.push_back({.n_initial = kUnlimited, .window = window});
      o.patterns.push_back({.n_initial = 4, .extra = {n - 1}, .window = window});
      o.patterns.push_back({.n_initial = 2, .extra = all, .window = window, .document_starts = all});
      o.patterns.push_back({.n_initial = 1, .window = window, .document_starts = {n / 2}});
      o.patterns.push_back({.n_initial = 3, .extra = {0}, .window = window, .document_starts = {n - 1, n}});
    }
    o.lengths.assign(o.patterns.size(), n);
    Random rng(++seed);
    check(AttentionCase(o, rng), n == 33, &worst);
  }
  worst.record();
}

// There are few patterns of up to four tokens: all of them are tested.
TEST(PatternAttention, EveryPatternOfUpToFourTokens) {
  Worst worst;
  for (int64_t n = 1; n <= 4; ++n) {
    const auto subset = [n](int64_t bits) {
      std::vector<int64_t> out;
      for (int64_t j = 0; j < n; ++j) {
        if ((bits >> j & 1) != 0) out.push_back(j);
      }
      return out;
    };
    for (int64_t starts = 0; starts < 1 << n; ++starts) {
      CaseOptions o{.shape = {1, 1, 8}, .alibi = starts % 2 == 1, .seed = "of EveryPatternOfUpToFourTokens"};
      for (int64_t extra = 0; extra < 1 << n; ++extra) {
        for (int64_t initial = 0; initial <= n; ++initial) {
          for (int64_t window = 1; window <= n; ++window)
            o.patterns.push_back({.n_initial = initial,
                                  .extra = subset(extra),
                                  .window = window,
                                  .document_starts = subset(starts)});
        }
      }
      o.lengths.assign(o.patterns.size(), n);
      Random rng(static_cast<uint32_t>(starts));
      check(AttentionCase(o, rng), false, &worst);
    }
  }
  worst.record();
}

// Scores up to about +-10, 100 and 1000: then the softmax is one-hot, and exponentials overflow if nothing
// prevents it.
TEST(PatternAttention, LargeScores) {
  Worst worst;
  for_each_seed(4'000'000, 60, [&](uint32_t seed) {
    Random rng(seed);
    constexpr float kSizes[] = {10, 100, 1000};
    CaseOptions o{.shape = {2, seed % 2 == 0 ? 1 : 2, 8 * test::draw(rng, 1, 8)},
                  .alibi = test::chance(rng, 30),
                  .key_size = kSizes[seed % 3],
                  .seed = std::to_string(seed)};
    add_random_sequences(&o, rng, 3, 1, 130);
    check(AttentionCase(o, rng), false, &worst);
  });
  worst.record();
}

TEST(PatternAttention, TheContextChoosesTheReference) {
  Random rng(5);
  CaseOptions o{.shape = {4, 2, 16}, .seed = "of TheContextChoosesTheReference"};
  add_random_sequences(&o, rng, 2, 50, 90);
  const AttentionCase c(o, rng);
  const AttentionCase::Forward f = c.forward(context(2), pattern_attention_reference);
  const QkvTensors g = c.backward(context(2), pattern_attention_backward_reference, f, false);
  const Context chosen = context(2, AttentionImpl::kReference);
  EXPECT_TRUE(c.forward(chosen, pattern_attention).out.storage->same_bits(*f.out.storage));
  EXPECT_TRUE(c.backward(chosen, pattern_attention_backward, f, false).same_bits(g));
}

// [batch][token][head][dim] as rows, or [batch][head][token][dim] with gaps between tokens and heads, as
// PyTorch has tensors.
struct BatchedHeads {
  BatchedHeads(int64_t batches, int64_t tokens, int64_t n, int64_t dim, bool by_head) {
    const int64_t row = by_head ? dim + 3 : n * dim;
    const int64_t stride = by_head ? tokens * row + 5 : dim;
    heads = {nullptr, row, HeadLayout::even(n, dim, stride), by_head ? n * stride + 7 : tokens * row};
    values.assign(batches * heads.batch_stride + stride, 0.0F);
    heads.data = values.data();
  }
  std::vector<float> values;
  Heads heads;
};

// Forward and backward of a batch: {out, log_sum_exp, d_q, d_k, d_v}, each as [batch][token][head][dim].
std::vector<std::vector<float>> run_batch(const AttentionShape& s, bool by_head, bool alibi) {
  constexpr int64_t kBatches = 3, kTokens = 75;
  const auto tensor = [&](int64_t n, int64_t dim) {
    return BatchedHeads(kBatches, kTokens, n, dim, by_head);
  };
  const auto for_each_element = [&](BatchedHeads& t, const auto& fn) {
    const HeadLayout& l = t.heads.layout;
    for (int64_t r = 0; r < kBatches * kTokens; ++r) {
      for (int64_t i = 0; i < l.n * l.dim; ++i)
        fn(t.heads.at(r / kTokens, r % kTokens, i / l.dim)[i % l.dim]);
    }
  };
  BatchedHeads q = tensor(s.n_heads, s.head_dim), k = tensor(s.n_kv_heads, s.head_dim), v = k, out = q;
  BatchedHeads log_sum_exp = tensor(s.n_heads, 1), d_out = q, d_q = q, d_k = k, d_v = k;
  for (BatchedHeads* t : {&v, &out, &d_out, &d_q, &d_k, &d_v}) t->heads.data = t->values.data();
  Random rng(8);
  std::uniform_real_distribution<float> value(-1, 1);
  for (BatchedHeads* t : {&q, &k, &v, &d_out}) for_each_element(*t, [&](float& x) { x = value(rng); });

  const Pattern pattern{.n_initial = 2, .extra = test::every_kth(kTokens, 7, 3), .window = 9};
  const Pattern documents{.extra = {50, 60}, .window = 5, .document_starts = {40}};
  std::vector<PatternSequence> sequences;
  for (int64_t b = 0; b < kBatches; ++b)
    sequences.push_back({.n_rows = kTokens, .pattern = b == 1 ? &documents : &pattern, .batch = b});
  const std::vector<float> slopes(s.n_heads, 0.25F);
  const PatternAttentionArgs args{.scale = 0.3F,
                                  .q = q.heads,
                                  .k = k.heads,
                                  .v = v.heads,
                                  .out = out.heads,
                                  .log_sum_exp = log_sum_exp.heads,
                                  .alibi_slopes = alibi ? slopes.data() : nullptr,
                                  .sequences = sequences};
  pattern_attention(context(2), args);
  pattern_attention_backward(context(2), args,
                             {.d_out = d_out.heads, .d_q = d_q.heads, .d_k = d_k.heads, .d_v = d_v.heads});
  std::vector<std::vector<float>> results;
  for (BatchedHeads* t : {&out, &log_sum_exp, &d_q, &d_k, &d_v}) {
    std::vector<float>& list = results.emplace_back();
    for_each_element(*t, [&](float& x) { list.push_back(x); });
  }
  return results;
}

// The layout changes no bit, also where several query heads share a kv head.
TEST(PatternAttention, BatchesHeadByHeadHaveTheBitsOfRows) {
  for (const AttentionShape& s : {AttentionShape{3, 3, 64}, {4, 2, 20}, {6, 1, 16}, {8, 2, 7}}) {
    for (const bool alibi : {false, true}) {
      SCOPED_TRACE(testing::Message() << s.n_heads << "/" << s.n_kv_heads << " heads of " << s.head_dim);
      test::for_each_target([&] { EXPECT_EQ(run_batch(s, true, alibi), run_batch(s, false, alibi)); });
    }
  }
}

TEST(PatternAttention, NoSequencesAreNoWork) {
  Random rng(6);
  const AttentionCase none({.shape = {2, 1, 8}, .seed = "0"}, rng);
  const AttentionCase empty({.shape = {2, 1, 8}, .patterns = {Pattern{}}, .lengths = {0}, .seed = "0"}, rng);
  Worst worst;
  check(none, true, &worst);
  check(empty, true, &worst);
}

}  // namespace
}  // namespace sepllm
