#include "kernels/attention/attention.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <limits>
#include <random>
#include <utility>
#include <vector>

#include "attention/pattern.h"
#include "kernels/attention/attention_bytes.h"
#include "kernels/kernel_test_support.h"

namespace sepllm {
namespace {

using test::Rows;

constexpr DType kKvTypes[] = {DType::kF32, DType::kF16, DType::kBF16, DType::kI8};

struct HeadShape {
  int64_t n_heads, n_kv_heads, head_dim;
};

// The keys and values that spans point into, and the other arrays that they point to.
struct Store {
  DType type;
  HeadShape shape;
  int64_t slot_stride = 0, head_stride = 0;
  std::deque<std::vector<char>> bytes;
  std::deque<std::vector<float>> scales;
  std::deque<std::vector<int64_t>> lists;
  std::vector<KeySpan> spans;
  uint32_t seed = 100;

  Store(DType t, const HeadShape& s) : type(t), shape(s) {}

  // Adds n keys with some elements between rows and heads; the caller sets positions and places.
  KeySpan& add(int64_t n) {
    KeySpan span;
    span.n_keys = n;
    span.slot_stride = shape.head_dim + 3;
    span.head_stride = (n + 1) * span.slot_stride + 5;
    const int64_t elements = shape.n_kv_heads * span.head_stride;
    bytes.push_back(test::random_stored(type, elements, seed++));
    span.k = bytes.back().data();
    bytes.push_back(test::random_stored(type, elements, seed++));
    span.v = bytes.back().data();
    if (type == DType::kI8) {
      span.scale_head_stride = n + 3;
      span.k_scales = random_scales(shape.n_kv_heads * span.scale_head_stride);
      span.v_scales = random_scales(shape.n_kv_heads * span.scale_head_stride);
    }
    return spans.emplace_back(span);
  }
  const float* random_scales(int64_t n) {
    std::mt19937 rng(seed++);
    std::uniform_real_distribution<float> value(0.001F, 0.01F);
    std::vector<float>& list = scales.emplace_back(static_cast<size_t>(n));
    for (float& x : list) x = value(rng);
    return list.data();
  }
  const int64_t* keep(std::vector<int64_t> list) { return lists.emplace_back(std::move(list)).data(); }
};

// The two spans of a pattern: kept keys older than the window, and the band.
void add_pattern(Store& store, const Pattern& pattern, int64_t n_tokens) {
  const std::vector<int64_t> kept = pattern.kept(n_tokens);
  KeySpan& compact = store.add(static_cast<int64_t>(kept.size()));
  compact.kind = KeySpan::Kind::kCompact;
  compact.positions = store.keep(kept);
  compact.encoded = compact.positions;
  compact.lag = pattern.window;
  KeySpan& band = store.add(n_tokens);
  band.window = pattern.window;
}

// Heads next to each other that fill the rows.
Heads dense_heads(Rows& rows, int64_t n) {
  const Matrix m = rows.matrix();
  return {m.data, m.stride, HeadLayout::dense(n, m.n_cols / n)};
}

struct Query {
  int64_t n_rows, first_position;
  Store* store;
};

// Compares the fast kernel with the reference, on every instruction set, with one and three threads.
void check_queries(const HeadShape& s, const std::vector<Query>& queries, bool alibi, bool second,
                   double tolerance) {
  SCOPED_TRACE(testing::Message() << s.n_heads << "/" << s.n_kv_heads << " heads of " << s.head_dim << " "
                                  << dtype_name(queries.front().store->type) << (alibi ? " alibi" : "")
                                  << (second ? " second query" : "") << " rows " << queries.front().n_rows);
  int64_t n_rows = 0;
  for (const Query& q : queries) n_rows += q.n_rows;
  const int64_t group = s.n_heads / s.n_kv_heads;
  const int64_t group_stride = group * s.head_dim + 2 * s.head_dim + 1;  // as in a fused QKV row
  const HeadLayout layout{
      .n = s.n_heads, .dim = s.head_dim, .group = group, .stride = s.head_dim, .group_stride = group_stride};
  const auto heads = [](Rows& rows, const HeadLayout& l) {
    return Heads{rows.matrix().data, rows.matrix().stride, l};
  };
  Rows q(n_rows, s.n_kv_heads * group_stride, 3, 1), q2(n_rows, s.n_kv_heads * group_stride, 3, 1);
  q.fill(1, -2, 2);
  q2.fill(2, -2, 2);
  std::vector<float> slopes;
  for (int64_t h = 0; h < s.n_heads; ++h) slopes.push_back(std::exp2(-static_cast<float>(h + 1)));

  std::deque<std::vector<int64_t>> places;
  std::vector<AttentionSequence> sequences;
  int64_t first_row = 0;
  for (const Query& query : queries) {
    AttentionSequence seq;
    seq.first_row = first_row;
    seq.n_rows = query.n_rows;
    seq.first_position = query.first_position;
    seq.kv_type = query.store->type;
    seq.spans = query.store->spans;
    std::vector<int64_t> own, other;
    for (int64_t r = 0; r < query.n_rows; ++r) {
      own.push_back(query.first_position + r);
      other.push_back(query.first_position + 2 * r + 3);
    }
    seq.encoded = places.emplace_back(own).data();
    if (second) seq.second_encoded = places.emplace_back(other).data();
    sequences.push_back(seq);
    first_row += query.n_rows;
  }

  AttentionArgs args;
  args.n_kv_heads = s.n_kv_heads;
  args.scale = 1.0F / std::sqrt(static_cast<float>(s.head_dim));
  args.q = heads(q, layout);
  if (second) args.second_q = heads(q2, layout);
  args.alibi_slopes = alibi ? slopes.data() : nullptr;
  args.sequences = sequences;

  const auto run = [&](int threads, AttentionImpl impl) {
    Rows out(n_rows, s.n_heads * s.head_dim, 7, 2);
    test::Threads t(threads);
    t.context.attention = impl;
    {  // scratch memory begins as NaN, so that nothing is taken from it that was not written
      constexpr int64_t kFloats = int64_t{1} << 17;
      const Arena::Scope scope(t.context.arena);
      std::fill_n(t.context.arena.allocate<float>(kFloats), kFloats, std::numeric_limits<float>::quiet_NaN());
    }
    AttentionArgs a = args;
    a.out = heads(out, HeadLayout::dense(s.n_heads, s.head_dim));
    attention(t.context, a);
    return out;
  };
  const Rows expected = run(1, AttentionImpl::kReference);
  EXPECT_EQ(expected.damaged(), 0);
  const bool has_bytes =
      std::any_of(queries.begin(), queries.end(), [](const Query& q) { return q.store->type == DType::kI8; });
  const auto check = [&] {
    const Rows one = run(1, AttentionImpl::kSimd);
    const bool rounded = has_bytes && has_attention_bytes();  // queries and weights (attention_bytes.h)
    EXPECT_LE(test::max_difference(one.matrix(), expected.matrix()), tolerance + (rounded ? 2e-5 : 0));
    EXPECT_EQ(one.damaged(), 0);
    EXPECT_TRUE(one.same_bits(run(3, AttentionImpl::kSimd)));
  };
  has_bytes ? test::for_each_instruction_set(check) : test::for_each_target(check);
}

Pattern sep_pattern(int64_t n_tokens, int64_t window, uint32_t seed) {
  Pattern p;
  p.n_initial = 4;
  p.window = window;
  std::mt19937 rng(seed);
  for (int64_t j = 0; j < n_tokens; ++j) {
    if (rng() % 6 == 0) p.extra.push_back(j);
  }
  return p;
}

constexpr HeadShape kHeadShapes[] = {{1, 1, 1},  {2, 2, 8},   {3, 1, 20},  {4, 2, 64}, {6, 6, 33},
                                     {5, 1, 65}, {8, 2, 128}, {71, 1, 16}, {3, 3, 80}, {2, 1, 257}};

// First the reference itself: against the pattern, pair by pair.
TEST(Attention, ReferenceSeesWhatThePatternShows) {
  constexpr int64_t kTokens = 60;
  const HeadShape s{1, 1, 4};
  const Pattern p = sep_pattern(kTokens, 7, 3);
  Store store(DType::kF32, s);
  add_pattern(store, p, kTokens);
  // All keys are equal, and values tell their position: the mean then tells the set.
  for (const KeySpan& span : store.spans) {
    for (int64_t j = 0; j < span.n_keys; ++j) {
      const int64_t position = span.position(j);
      for (int64_t d = 0; d < s.head_dim; ++d) {
        const_cast<float*>(static_cast<const float*>(span.k))[j * span.slot_stride + d] = 0.5F;
        const_cast<float*>(static_cast<const float*>(span.v))[j * span.slot_stride + d] =
            static_cast<float>(position * (d + 1));
      }
    }
  }
  Rows q(kTokens, s.head_dim), out(kTokens, s.head_dim);
  q.fill(1);
  const AttentionSequence seq{.n_rows = kTokens, .spans = store.spans};
  AttentionArgs args;
  args.n_kv_heads = 1;
  args.scale = 1;
  args.q = dense_heads(q, 1);
  args.out = dense_heads(out, 1);
  args.sequences = {&seq, 1};
  test::Threads t(2);
  attention_reference(t.context, args);
  for (int64_t i = 0; i < kTokens; ++i) {
    double sum = 0, count = 0;
    for (int64_t j = 0; j < kTokens; ++j) {
      if (p.visible(i, j)) sum += static_cast<double>(j), count += 1;
    }
    for (int64_t d = 0; d < s.head_dim; ++d) {
      EXPECT_NEAR(out.at(i, d), sum / count * static_cast<double>(d + 1), 1e-3) << i;
    }
  }
}

TEST(Attention, PromptsOfAllShapes) {
  for (const HeadShape& s : kHeadShapes) {
    for (const DType type : kKvTypes) {
      Store store(type, s);
      add_pattern(store, sep_pattern(150, 37, 5), 150);
      check_queries(s, {{150, 0, &store}}, false, false, 5e-6);
    }
  }
}

TEST(Attention, DecodeOfAllShapes) {
  for (const HeadShape& s : kHeadShapes) {
    for (const DType type : kKvTypes) {
      Store store(type, s);
      add_pattern(store, sep_pattern(700, 290, 6), 700);
      for (const int64_t n_rows : {1, 2, 5, 17})
        check_queries(s, {{n_rows, 700 - n_rows, &store}}, false, false, 5e-6);
    }
  }
}

TEST(Attention, FullAttentionOverManyKeysIsSplit) {
  const HeadShape s{4, 2, 40};
  for (const int64_t n_rows : {1, 3, 16, 40}) {
    Store store(DType::kF32, s);
    store.add(2100);
    check_queries(s, {{n_rows, 2100 - n_rows, &store}}, false, false, 5e-6);
  }
}

TEST(Attention, DecodeOfAllHeadSizesAndLanes) {
  for (int64_t head_dim = 8; head_dim <= 256; head_dim += 8) {
    const int64_t lanes = 1 + head_dim / 8 % 8;
    const HeadShape s{2 * lanes, 2, head_dim};
    for (const DType type : kKvTypes) {
      Store store(type, s);
      store.add(67);
      check_queries(s, {{1, 66, &store}}, false, false, 5e-6);
    }
  }
}

// Tiles and splits end everywhere; streams are short or empty.
TEST(Attention, DecodeOfAllLengths) {
  int64_t n = 1;
  for (int i = 0; n <= 5000; ++i) {
    const DType type = kKvTypes[i % 4];
    const HeadShape s{i % 5 + 1, 1, i % 2 == 0 ? 16 : 24};
    Store store(type, s);
    store.add(n);
    check_queries(s, {{1, n - 1, &store}}, i % 3 == 0, false, 5e-6);
    n += n < 40 ? 1 : n % 97 + n / 8;
  }
}

TEST(Attention, AFewRowsSeeDifferentKeys) {
  for (const HeadShape& s : {HeadShape{1, 1, 64}, HeadShape{2, 1, 40}, HeadShape{4, 2, 17}}) {
    for (const DType type : kKvTypes) {
      for (const int64_t n_rows : {2, 3, 4}) {
        Store store(type, s);
        add_pattern(store, sep_pattern(900, 3, 11), 900);  // the window is as short as the rows are many
        store.add(600).window = 550;
        check_queries(s, {{n_rows, 600 - n_rows, &store}}, true, false, 5e-6);
      }
    }
  }
}

TEST(Attention, DecodeOfManySequencesOfDifferentLengths) {
  const HeadShape s{8, 2, 64};
  for (const DType type : kKvTypes) {
    std::deque<Store> stores;
    std::vector<Query> queries;
    for (const int64_t n : {1, 5, 3000, 64, 511, 512, 513, 1, 1500, 17, 2048}) {
      stores.emplace_back(type, s).add(n);
      queries.push_back({1, n - 1, &stores.back()});
    }
    check_queries(s, queries, false, false, 5e-6);
  }
}

// A result does not depend on the other sequences of the batch.
TEST(Attention, ASequenceAloneAndInABatch) {
  const HeadShape s{4, 2, 32};
  Store a(DType::kF16, s), b(DType::kF16, s);
  a.add(3000);
  b.add(700);
  Rows q(2, 4 * 32);
  q.fill(1);
  AttentionSequence sequences[2] = {
      {.n_rows = 1, .first_position = 2999, .kv_type = a.type, .spans = a.spans},
      {.first_row = 1, .n_rows = 1, .first_position = 699, .kv_type = b.type, .spans = b.spans}};
  AttentionArgs args;
  args.n_kv_heads = 2;
  args.scale = 0.2F;
  args.q = dense_heads(q, 4);
  test::Threads t(2);
  Rows alone(2, 4 * 32), together(2, 4 * 32);
  args.out = dense_heads(together, 4);
  args.sequences = sequences;
  attention(t.context, args);
  args.out = dense_heads(alone, 4);
  for (const AttentionSequence& one : sequences) {
    args.sequences = {&one, 1};
    attention(t.context, args);
  }
  EXPECT_TRUE(alone.same_bits(together));
}

// Queries and outputs of a batch as [batch][head][token][dim], with gaps, compared with rows of all heads.
TEST(Attention, BatchesHeadByHeadHaveTheBitsOfRows) {
  constexpr int64_t kBatches = 2, kGap = 3;
  for (const HeadShape& s : {HeadShape{4, 2, 32}, HeadShape{6, 1, 20}, HeadShape{3, 3, 7}}) {
    for (const int64_t n_rows : {1, 4, 50}) {  // by both kernels
      for (const bool second : {false, true}) {
        Store store(DType::kF16, s);
        store.add(300).window = 100;
        KeySpan& initial = store.add(5);
        initial.second_query = true;
        initial.lag = 100;
        const int64_t row = s.head_dim + kGap, head = n_rows * row + kGap, batch = s.n_heads * head + kGap;
        const HeadLayout layout = HeadLayout::even(s.n_heads, s.head_dim, head);
        Rows q(kBatches * n_rows, s.n_heads * s.head_dim), q2 = q, out = q;
        q.fill(1);
        q2.fill(2);
        const auto by_head = [&](Rows& rows) {
          std::vector<float> values(kBatches * batch, 99.0F);
          const Heads to{values.data(), row, layout, batch}, from = dense_heads(rows, s.n_heads);
          for (int64_t r = 0; r < kBatches * n_rows; ++r) {
            for (int64_t h = 0; h < s.n_heads; ++h)
              std::copy_n(from.at(r, h), s.head_dim, to.at(r / n_rows, r % n_rows, h));
          }
          return values;
        };
        std::vector<float> q_by_head = by_head(q), q2_by_head = by_head(q2), got(kBatches * batch, 99.0F);

        std::vector<AttentionSequence> sequences(
            kBatches,
            {.n_rows = n_rows, .first_position = 300 - n_rows, .kv_type = store.type, .spans = store.spans});
        for (int64_t b = 0; b < kBatches; ++b) sequences[b].first_row = b * n_rows;
        AttentionArgs args{.n_kv_heads = s.n_kv_heads,
                           .scale = 0.2F,
                           .q = dense_heads(q, s.n_heads),
                           .out = dense_heads(out, s.n_heads),
                           .sequences = sequences};
        if (second) args.second_q = dense_heads(q2, s.n_heads);
        test::Threads t(2);
        attention(t.context, args);

        for (int64_t b = 0; b < kBatches; ++b) sequences[b].first_row = 0, sequences[b].batch = b;
        args.q = {q_by_head.data(), row, layout, batch};
        args.out = {got.data(), row, layout, batch};
        if (second) args.second_q = {q2_by_head.data(), row, layout, batch};
        attention(t.context, args);
        EXPECT_EQ(got, by_head(out)) << s.n_heads << " heads, " << n_rows << " rows";
      }
    }
  }
}

// A row that could not be quantised is noticed, but only by queries that see it.
TEST(Attention, Int8RowsWithANanScaleAreSeen) {
  const HeadShape s{2, 1, 16};
  for (const bool keys : {true, false}) {
    Store store(DType::kI8, s);
    KeySpan& span = store.add(100);
    const_cast<float*>(keys ? span.k_scales : span.v_scales)[60] = std::numeric_limits<float>::quiet_NaN();
    Rows q(1, 32), out(1, 32);
    q.fill(1);
    for (const int64_t position : {59, 60}) {
      const AttentionSequence one{
          .n_rows = 1, .first_position = position, .kv_type = DType::kI8, .spans = store.spans};
      AttentionArgs args;
      args.n_kv_heads = 1;
      args.scale = 0.2F;
      args.q = dense_heads(q, 2);
      args.out = dense_heads(out, 2);
      args.sequences = {&one, 1};
      test::Threads t(1);
      test::for_each_target([&] {
        attention(t.context, args);
        for (int64_t i = 0; i < 32; ++i) EXPECT_EQ(std::isnan(out.at(0, i)), position == 60) << i;
      });
    }
  }
}

TEST(Attention, AlibiCountsPlacesFarFromTheOrigin) {
  const HeadShape s{4, 4, 16};
  for (const int64_t n_rows : {1, 90}) {
    Store store(DType::kF32, s);
    constexpr int64_t kFar = int64_t{1} << 33;
    KeySpan& span = store.add(600);
    span.first_position = kFar;
    span.first_encoded = kFar;
    check_queries(s, {{n_rows, kFar + 600 - n_rows, &store}}, true, false, 5e-6);
  }
}

TEST(Attention, SecondQueriesAndPlaces) {
  for (const HeadShape& s : {HeadShape{4, 2, 32}, HeadShape{2, 2, 7}, HeadShape{1, 1, 64}}) {
    for (const int64_t n_rows : {1, 4, 70}) {
      for (const bool alibi : {false, true}) {
        Store store(DType::kF16, s);
        store.add(300).window = 100;
        KeySpan& initial = store.add(5);
        initial.second_query = true;
        initial.lag = 100;
        check_queries(s, {{n_rows, 300 - n_rows, &store}}, alibi, true, 5e-6);
        check_queries(s, {{n_rows, 300 - n_rows, &store}}, alibi, false, 5e-6);
      }
    }
  }
}

TEST(Attention, SequencesOfOneBatchKeepApart) {
  const HeadShape s{6, 3, 24};
  Store full(DType::kF32, s), sparse(DType::kBF16, s), small(DType::kF16, s);
  full.add(90);
  add_pattern(sparse, sep_pattern(1400, 600, 8), 1400);
  small.add(1);
  check_queries(s, {{64, 0, &full}, {1, 1399, &sparse}, {1, 0, &small}, {0, 5, &small}, {9, 700, &sparse}},
                false, false, 5e-6);
}

TEST(Attention, RowsThatSeeNothingInSomeSpans) {
  const HeadShape s{2, 2, 16};
  Store store(DType::kF32, s);
  add_pattern(store, sep_pattern(80, 1, 9), 80);  // the band is only the query
  store.add(0);
  KeySpan& late = store.add(10);
  late.first_position = 75;
  check_queries(s, {{80, 0, &store}}, true, false, 5e-6);
}

TEST(Attention, LargeScoresDoNotOverflow) {
  const HeadShape s{2, 2, 16};
  for (const int64_t n_rows : {1, 40}) {
    Store store(DType::kF32, s);
    const KeySpan& span = store.add(300);
    auto* k = const_cast<float*>(static_cast<const float*>(span.k));
    for (int64_t i = 0; i < s.n_kv_heads * span.head_stride; ++i) k[i] *= 300.0F;
    check_queries(s, {{n_rows, 300 - n_rows, &store}}, false, false, 1e-3);
  }
}

}  // namespace
}  // namespace sepllm
