// Attention by blocks: random selections (by query head or shared by the heads of a kv head), block borders,
// documents' places and layouts of heads, forward and backward, compared with masked attention in double; and
// MoBA's choice compared with its reference.
#include "kernels/attention/block_attention.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <random>
#include <span>
#include <utility>
#include <vector>

#include "attention/block_rule.h"
#include "kernels/attention/block_choice.h"
#include "kernels/formats/element.h"
#include "kernels/formats/rows.h"
#include "kernels/kernel_test_support.h"

namespace sepllm {
namespace {

using Mersenne = std::mt19937;

int64_t pick(Mersenne& rng, int64_t low, int64_t high) {
  return low + static_cast<int64_t>(rng() % static_cast<uint32_t>(high - low + 1));
}

// Heads of rows in memory of their own, with gaps between rows.
struct BlockRows {
  BlockRows(int64_t n_rows, int64_t n_heads, int64_t dim, int64_t gap, Mersenne* rng, float size = 1.0F)
      : values(static_cast<size_t>(n_rows * (n_heads * dim + gap)), NAN) {
    heads = {values.data(), n_heads * dim + gap, HeadLayout::dense(n_heads, dim)};
    std::uniform_real_distribution<float> value(-size, size);
    for (int64_t i = 0; rng != nullptr && i < n_rows * heads.row_stride; ++i)
      if (i % heads.row_stride < n_heads * dim) values[static_cast<size_t>(i)] = value(*rng);
  }
  std::vector<float> values;
  Heads heads;
};

// Where the blocks of a sequence of n keys begin, from `first` on.
std::vector<int64_t> random_starts(Mersenne& rng, int64_t first, int64_t n) {
  std::vector<int64_t> starts{first};
  const int64_t most = pick(rng, 1, 24);
  const bool equal = pick(rng, 0, 1) == 0;
  while (true) {
    const int64_t next = starts.back() + (equal ? most : pick(rng, 1, most));
    if (next >= first + n) return starts;
    starts.push_back(next);
  }
}

struct BlockCase {
  int64_t group, n_kv_heads, dim, n_keys, n_rows, first;
  bool shared;  // one choice for the heads of a kv head
  std::vector<int64_t> starts;
  int64_t n_chosen;
  std::vector<int32_t> chosen;
  int64_t n_heads() const { return group * n_kv_heads; }
  int64_t n_choosers() const { return shared ? n_kv_heads : n_heads(); }
  BlockSelection selection() const { return {starts, chosen.data(), n_choosers(), n_chosen}; }
};

// Each row and chooser takes up to n_chosen of the blocks before its own.
void choose_at_random(BlockCase& c, Mersenne& rng) {
  for (int64_t r = 0; r < c.n_rows; ++r) {
    const int64_t own = block_of(c.starts, c.first + c.n_keys - c.n_rows + r);
    for (int64_t h = 0; h < c.n_choosers(); ++h) {
      std::vector<int32_t> blocks(static_cast<size_t>(own));
      std::iota(blocks.begin(), blocks.end(), 0);
      std::shuffle(blocks.begin(), blocks.end(), rng);
      blocks.resize(static_cast<size_t>(std::min(own, pick(rng, 0, c.n_chosen))));
      std::sort(blocks.begin(), blocks.end());
      blocks.resize(static_cast<size_t>(c.n_chosen), -1);
      c.chosen.insert(c.chosen.end(), blocks.begin(), blocks.end());
    }
  }
}

// The queries are all rows, or the last few.
BlockCase random_case(Mersenne& rng, bool all_rows) {
  constexpr int64_t kDims[] = {8, 16, 20, 32, 64, 5};
  BlockCase c{};
  c.group = pick(rng, 1, 4);
  c.n_kv_heads = pick(rng, 1, 3);
  c.dim = kDims[rng() % 6];
  c.n_keys = pick(rng, 1, pick(rng, 0, 9) == 0 ? 400 : 90);
  c.n_rows = all_rows ? c.n_keys : pick(rng, 1, std::min<int64_t>(c.n_keys, 40));
  c.first = pick(rng, 0, 1) * pick(rng, 0, 500);
  c.shared = pick(rng, 0, 2) == 0;
  c.starts = random_starts(rng, c.first, c.n_keys);
  c.n_chosen = pick(rng, 0, 6);
  choose_at_random(c, rng);
  return c;
}

// Relative to the largest magnitude of the tensor, at least 0.01.
void expect_rows_near(const BlockRows& got, const BlockRows& expected, int64_t n_rows, const char* what) {
  float largest = 0.01F, error = 0;
  for (int64_t r = 0; r < n_rows; ++r) {
    for (int64_t h = 0; h < got.heads.layout.n; ++h) {
      for (int64_t d = 0; d < got.heads.layout.dim; ++d) {
        const float e = expected.heads.at(r, h)[d];
        largest = std::max(largest, std::abs(e));
        const float difference = std::abs(got.heads.at(r, h)[d] - e);
        error = std::isnan(difference) ? INFINITY : std::max(error, difference);
      }
    }
  }
  EXPECT_LE(error, 1e-4F * largest) << what;
}

// The operands of a case, and what is computed of them.
struct BlockRun {
  BlockRun(const BlockCase& c, Mersenne& rng)
      : c(c),
        q(c.n_rows, c.n_heads(), c.dim, pick(rng, 0, 7), &rng, 3.0F),
        k(c.n_keys, c.n_kv_heads, c.dim, pick(rng, 0, 7), &rng),
        v(c.n_keys, c.n_kv_heads, c.dim, static_cast<int64_t>(k.heads.row_stride) - c.n_kv_heads * c.dim,
          &rng),
        d_out(c.n_rows, c.n_heads(), c.dim, 0, &rng),
        alibi(pick(rng, 0, 3) == 0) {
    for (int64_t h = 0; h < c.n_heads(); ++h) slopes.push_back(1.0F / static_cast<float>(h + 2));
    for (int64_t r = 0; r < c.n_rows; ++r) places.push_back(c.first + c.n_keys - c.n_rows + r);
    span.k = k.heads.at(0, 0);
    span.v = v.heads.at(0, 0);
    span.slot_stride = k.heads.row_stride;
    span.head_stride = c.dim;
    span.n_keys = c.n_keys;
    span.first_position = span.first_encoded = c.first;
    sequence = {.n_rows = c.n_rows,
                .first_position = places[0],
                .spans = {&span, 1},
                .encoded = places.data(),
                .keys = {.n = c.n_keys}};
  }

  struct Results {
    Results(const BlockCase& c)
        : out(c.n_rows, c.n_heads(), c.dim, 3, nullptr),
          log_sum_exp(c.n_rows, c.n_heads(), 1, 0, nullptr),
          d_q(c.n_rows, c.n_heads(), c.dim, 0, nullptr),
          d_k(c.n_keys, c.n_kv_heads, c.dim, 0, nullptr),
          d_v(c.n_keys, c.n_kv_heads, c.dim, 0, nullptr) {}
    BlockRows out, log_sum_exp, d_q, d_k, d_v;
  };

  AttentionArgs args(const Results& r, bool with_sums) const {
    return {.n_kv_heads = c.n_kv_heads,
            .scale = 1 / std::sqrt(static_cast<float>(c.dim)),
            .q = q.heads,
            .out = r.out.heads,
            .log_sum_exp = with_sums ? r.log_sum_exp.heads : Heads(),
            .alibi_slopes = alibi ? slopes.data() : nullptr,
            .sequences = {&sequence, 1}};
  }

  Results run(test::Threads& t, bool backward) const {
    Results r(c);
    const BlockSelection selection = c.selection();
    const AttentionArgs a = args(r, backward);
    block_attention(t.context, a, {&selection, 1});
    if (backward) {
      block_attention_backward(
          t.context, a, {&selection, 1},
          {.d_out = d_out.heads, .d_q = r.d_q.heads, .d_k = r.d_k.heads, .d_v = r.d_v.heads});
    }
    return r;
  }

  const BlockCase& c;
  BlockRows q, k, v, d_out;
  bool alibi;
  std::vector<float> slopes;
  std::vector<int64_t> places;
  KeySpan span;
  AttentionSequence sequence;
};

TEST(BlockAttention, ForwardAndBackwardOfRandomSelections) {
  constexpr int kCases = 500;
  for (int i = 0; i < kCases; ++i) {
    SCOPED_TRACE(i);
    Mersenne rng(static_cast<uint32_t>(i));
    const BlockCase c = random_case(rng, /*all_rows=*/true);
    const BlockRun run(c, rng);
    test::Threads t(1 + i % 3);
    t.context.attention = AttentionImpl::kReference;
    const BlockRun::Results expected = run.run(t, true);
    t.context.attention = AttentionImpl::kSimd;
    const auto compare = [&] {
      const BlockRun::Results got = run.run(t, true);
      expect_rows_near(got.out, expected.out, c.n_rows, "out");
      expect_rows_near(got.log_sum_exp, expected.log_sum_exp, c.n_rows, "log_sum_exp");
      expect_rows_near(got.d_q, expected.d_q, c.n_rows, "d_q");
      expect_rows_near(got.d_k, expected.d_k, c.n_keys, "d_k");
      expect_rows_near(got.d_v, expected.d_v, c.n_keys, "d_v");
    };
    if (i % 10 == 0) {
      test::for_each_target(compare);
    } else {
      compare();
    }
    if (testing::Test::HasFailure()) return;
  }
}

// Tasks have a range of rows and a chunk of heads; the backward pass also splits the rows of a kv head.
TEST(BlockAttention, ManyRowsAndHeads) {
  for (const auto& [group, n_keys] : {std::pair<int64_t, int64_t>{40, 530}, {300, 60}}) {
    Mersenne rng(static_cast<uint32_t>(group));
    BlockCase c{};
    c.group = group;
    c.n_kv_heads = 1;
    c.dim = 8;
    c.n_keys = c.n_rows = n_keys;
    c.starts = random_starts(rng, 0, n_keys);
    c.n_chosen = 3;
    choose_at_random(c, rng);
    const BlockRun run(c, rng);
    test::Threads t(3);
    t.context.attention = AttentionImpl::kReference;
    const BlockRun::Results expected = run.run(t, true);
    t.context.attention = AttentionImpl::kSimd;
    const BlockRun::Results got = run.run(t, true);
    expect_rows_near(got.out, expected.out, c.n_rows, "out");
    expect_rows_near(got.log_sum_exp, expected.log_sum_exp, c.n_rows, "log_sum_exp");
    expect_rows_near(got.d_q, expected.d_q, c.n_rows, "d_q");
    expect_rows_near(got.d_k, expected.d_k, c.n_keys, "d_k");
    expect_rows_near(got.d_v, expected.d_v, c.n_keys, "d_v");
  }
}

// Chunks of a longer text, as with a cache: few rows take another way than many.
TEST(BlockAttention, RowsAtTheEndOfTheKeys) {
  for (int i = 0; i < 150; ++i) {
    SCOPED_TRACE(i);
    Mersenne rng(static_cast<uint32_t>(1000 + i));
    const BlockCase c = random_case(rng, /*all_rows=*/false);
    const BlockRun run(c, rng);
    test::Threads t(2);
    t.context.attention = AttentionImpl::kReference;
    const BlockRun::Results expected = run.run(t, false);
    t.context.attention = AttentionImpl::kSimd;
    expect_rows_near(run.run(t, false).out, expected.out, c.n_rows, "out");
    if (testing::Test::HasFailure()) return;
  }
}

TEST(BlockAttention, BitsDoNotDependOnThreads) {
  Mersenne rng(7);
  BlockCase c = random_case(rng, true);
  while (c.n_keys < 200 || c.n_chosen < 3) c = random_case(rng, true);
  const BlockRun run(c, rng);
  test::Threads one(1), three(3);
  const BlockSelection selection = c.selection();
  const auto all = [&](test::Threads& t) {
    BlockRun::Results r(c);
    const AttentionArgs a = run.args(r, true);
    block_attention(t.context, a, {&selection, 1});
    block_attention_backward(t.context, a, {&selection, 1},
                             {.d_out = run.d_out.heads,
                              .d_q = r.d_q.heads,
                              .d_k = r.d_k.heads,
                              .d_v = r.d_v.heads,
                              .same_for_any_threads = true});
    return r;
  };
  const BlockRun::Results a = all(one), b = all(three);
  EXPECT_EQ(0, std::memcmp(a.d_q.values.data(), b.d_q.values.data(), a.d_q.values.size() * sizeof(float)));
  EXPECT_EQ(0, std::memcmp(a.d_k.values.data(), b.d_k.values.data(), a.d_k.values.size() * sizeof(float)));
  EXPECT_EQ(0, std::memcmp(a.d_v.values.data(), b.d_v.values.data(), a.d_v.values.size() * sizeof(float)));
}

// --- The choice ---

struct Choosing {
  Choosing(Mersenne& rng, bool integers)
      : group(pick(rng, 1, 4)),
        n_kv_heads(pick(rng, 1, 3)),
        dim(pick(rng, 1, 40)),
        n_rows(pick(rng, 1, 120)),
        q(n_rows, group * n_kv_heads, dim, 2, &rng) {
    const int64_t before = pick(rng, 0, 200);
    starts = random_starts(rng, 0, before + n_rows);
    means.resize(starts.size() * static_cast<size_t>(n_kv_heads * dim));
    std::uniform_real_distribution<float> value(-1, 1);
    // Small integers: many products are equal.
    const auto draw = [&] { return integers ? static_cast<float>(pick(rng, -1, 1)) : value(rng); };
    std::generate(means.begin(), means.end(), draw);
    if (integers) std::generate(q.values.begin(), q.values.end(), draw);
    choice = {.q = q.heads,
              .n_rows = n_rows,
              .first_position = before,
              .n_kv_heads = n_kv_heads,
              .starts = starts,
              .means = means.data(),
              .n_chosen = pick(rng, 1, 9)};
  }
  std::vector<int32_t> run(const Context& ctx) const {
    std::vector<int32_t> out(static_cast<size_t>(n_rows * group * n_kv_heads * choice.n_chosen), 77);
    choose_blocks(ctx, choice, out.data());
    return out;
  }
  int64_t group, n_kv_heads, dim, n_rows;
  BlockRows q;
  std::vector<int64_t> starts;
  std::vector<float> means;
  BlockChoice choice;
};

TEST(BlockChoice, AgreesWithTheReference) {
  for (int i = 0; i < 300; ++i) {
    SCOPED_TRACE(i);
    Mersenne rng(static_cast<uint32_t>(i));
    const Choosing c(rng, /*integers=*/i % 2 == 0);  // (in the others, products are far enough apart)
    test::Threads t(1 + i % 3);
    t.context.attention = AttentionImpl::kReference;
    const std::vector<int32_t> expected = c.run(t.context);
    t.context.attention = AttentionImpl::kSimd;
    test::for_each_target([&] { EXPECT_EQ(c.run(t.context), expected); });
    if (testing::Test::HasFailure()) return;
  }
}

TEST(BlockChoice, OfEqualProductsTheEarliestAndNeverNaN) {
  test::Threads t(1);
  const std::vector<int64_t> starts{0, 4, 8, 12, 16, 20};
  std::vector<float> means{1, 2, NAN, 2, 2, 0};
  BlockRows q(24, 1, 1, 0, nullptr);
  std::fill(q.values.begin(), q.values.end(), 1.0F);
  const BlockChoice choice{
      .q = q.heads, .n_rows = 24, .n_kv_heads = 1, .starts = starts, .means = means.data(), .n_chosen = 2};
  for (const AttentionImpl impl : {AttentionImpl::kReference, AttentionImpl::kSimd}) {
    t.context.attention = impl;
    std::vector<int32_t> chosen(48, 77);
    choose_blocks(t.context, choice, chosen.data());
    const auto of = [&](int64_t row) {
      return std::vector<int32_t>{chosen[static_cast<size_t>(2 * row)],
                                  chosen[static_cast<size_t>(2 * row + 1)]};
    };
    EXPECT_EQ(of(3), (std::vector<int32_t>{-1, -1}));  // only its own block
    EXPECT_EQ(of(4), (std::vector<int32_t>{0, -1}));
    EXPECT_EQ(of(11), (std::vector<int32_t>{0, 1}));
    EXPECT_EQ(of(13), (std::vector<int32_t>{0, 1}));  // block 2 has no number
    EXPECT_EQ(of(17), (std::vector<int32_t>{1, 3}));
    EXPECT_EQ(of(23), (std::vector<int32_t>{1, 3}));
  }
}

// Means depend only on the stored rows: by type, within rounding of the mean in double.
TEST(BlockChoice, Means) {
  Mersenne rng(3);
  constexpr int64_t kDim = 19, kRows = 11;
  BlockRows rows(kRows, 1, kDim, 0, &rng);
  for (const DType type : {DType::kF32, DType::kF16, DType::kBF16, DType::kI8}) {
    std::vector<char> stored(kRows * kDim * 4);
    std::vector<float> scales(kRows);
    for (int64_t r = 0; r < kRows; ++r) {
      void* to = element_at(type, static_cast<void*>(stored.data()), r * kDim);
      if (type == DType::kI8) {
        scales[static_cast<size_t>(r)] = quantize_row(rows.heads.at(r, 0), kDim, static_cast<int8_t*>(to));
      } else {
        row_from_f32(type, rows.heads.at(r, 0), kDim, to);
      }
    }
    KeySpan span;
    span.k = stored.data();
    span.slot_stride = kDim;
    span.n_keys = kRows;
    span.k_scales = scales.data();
    std::vector<float> mean(kDim);
    block_mean(span, type, 0, 2, 7, kDim, mean.data());
    for (int64_t d = 0; d < kDim; ++d) {
      double sum = 0;
      for (int64_t r = 2; r < 9; ++r) {
        const double x = load_element(type, stored.data(), r * kDim + d);
        sum += type == DType::kI8 ? x * static_cast<double>(scales[static_cast<size_t>(r)]) : x;
      }
      EXPECT_NEAR(mean[static_cast<size_t>(d)], sum / 7, 1e-6);
    }
  }
}

}  // namespace
}  // namespace sepllm
