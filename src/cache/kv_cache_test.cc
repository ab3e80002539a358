#include "cache/kv_cache.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <set>
#include <span>
#include <vector>

#include "base/check.h"
#include "base/error.h"
#include "base/rng.h"

namespace sepllm {
namespace {

constexpr int64_t kHeads = 2;
constexpr int64_t kDim = 3;

TokenSet separators() {
  TokenSet set(16);
  set.insert(5);
  set.insert(11);
  return set;
}

std::vector<int32_t> random_tokens(int64_t n, uint64_t seed) {
  const Rng rng(seed);
  std::vector<int32_t> out;
  for (int64_t k = 0; k < n; ++k)
    out.push_back(static_cast<int32_t>(rng.bits(static_cast<uint64_t>(k)) % 16));
  return out;
}

// What the test writes as the key of a position: enough to tell whose row it is.
float mark(int64_t layer, int64_t head, int64_t position) {
  return static_cast<float>(position * 100 + layer * 10 + head);
}

void write_chunk(KvCache& cache, int64_t layer, int64_t n) {
  std::vector<void*> k(static_cast<size_t>(n)), v(static_cast<size_t>(n));
  std::vector<int64_t> strides(static_cast<size_t>(n));
  cache.chunk_rows(layer, k.data(), v.data(), strides.data());
  for (int64_t t = 0; t < n; ++t) {
    for (int64_t head = 0; head < kHeads; ++head) {
      const auto at = static_cast<size_t>(t);
      const float value = mark(layer, head, cache.length() + t);
      static_cast<float*>(k[at])[head * strides[at]] = value;
      static_cast<float*>(v[at])[head * strides[at]] = -value;
    }
  }
  cache.rows_written(layer);
}

// Positions that query i sees in this layer, read from the rows themselves; every row must be seen once and
// be the right one.
std::set<int64_t> seen(std::span<const KeySpan> spans, int64_t layer, int64_t i) {
  std::set<int64_t> out;
  for (const KeySpan& s : spans) {
    const KeySpan::Range range = s.range(i);
    for (int64_t r = range.lo; r < range.hi; ++r) {
      const int64_t position = s.position(r);
      for (int64_t head = 0; head < kHeads; ++head) {
        const int64_t at = r * s.slot_stride + head * s.head_stride;
        EXPECT_EQ(static_cast<const float*>(s.k)[at], mark(layer, head, position));
        EXPECT_EQ(static_cast<const float*>(s.v)[at], -mark(layer, head, position));
      }
      EXPECT_TRUE(out.insert(position).second) << "position " << position << " twice for query " << i;
    }
  }
  return out;
}

void carry_out(KvCache& cache, std::span<const Move> moves) {
  for (int64_t layer = 0; layer < cache.layout().n_layers; ++layer) {
    for (int64_t head = 0; head < kHeads; ++head) {
      for (const Move& m : moves) {
        std::memmove(cache.key_row(layer, head, m.to), cache.key_row(layer, head, m.from), sizeof(float));
        std::memmove(cache.value_row(layer, head, m.to), cache.value_row(layer, head, m.from), sizeof(float));
      }
    }
  }
}

// Feeds tokens in random chunks and compares what each query sees with the pattern, row by row.
void check_static(const Policy& policy, int64_t n_layers, uint64_t seed) {
  const std::vector<int32_t> tokens = random_tokens(120, seed);
  const auto total = static_cast<int64_t>(tokens.size());
  KvCache cache({n_layers, kHeads, kDim, DType::kF32}, policy, separators());
  std::vector<Pattern> patterns;
  int64_t pairs = 0;
  for (int64_t l = 0; l < n_layers; ++l) {
    patterns.push_back(policy.pattern(tokens.data(), total, separators(), l, n_layers));
    pairs += patterns.back().visible_pairs(total);
  }
  const Rng rng(seed, 1);
  for (uint64_t draw = 0; cache.length() < total; ++draw) {
    const int64_t n = std::min(total - cache.length(), 1 + static_cast<int64_t>(rng.bits(draw) % 30));
    const int64_t first = cache.length();
    cache.begin_chunk({tokens.data() + first, static_cast<size_t>(n)});
    for (int64_t l = 0; l < n_layers; ++l) {
      write_chunk(cache, l, n);
      const std::span<const KeySpan> spans = cache.spans(l);
      for (int64_t i = first; i < first + n; ++i) {
        std::set<int64_t> expected;
        for (int64_t j = 0; j <= i; ++j) {
          if (patterns[static_cast<size_t>(l)].visible(i, j)) expected.insert(j);
        }
        ASSERT_EQ(seen(spans, l, i), expected) << "query " << i << " layer " << l << " seed " << seed;
      }
    }
    EXPECT_TRUE(cache.end_chunk().empty());
  }
  EXPECT_EQ(cache.stats().keys, pairs);
  EXPECT_EQ(cache.stats().full_keys, n_layers * total * (total + 1) / 2);
}

TEST(KvCache, StaticPoliciesEqualTheMaskInAnyChunks) {
  for (uint64_t seed = 0; seed < 12; ++seed) {
    const Rng rng(seed, 2);
    for (const PolicyKind kind :
         {PolicyKind::kFull, PolicyKind::kSep, PolicyKind::kSink, PolicyKind::kFixed}) {
      Policy p;
      p.kind = kind;
      p.init = static_cast<int64_t>(rng.bits(0) % 5);
      p.window = 1 + static_cast<int64_t>(rng.bits(1) % 20);
      p.interval = 1 + static_cast<int64_t>(rng.bits(2) % 6);
      check_static(p, 2, seed);
      if (kind == PolicyKind::kFull) continue;
      p.layer_window = {{0, kUnlimited}, {-1, 3}};
      check_static(p, 4, seed);
      p.max_segment = 1 + static_cast<int64_t>(rng.bits(3) % 7);
      p.layer_window.erase(0);  // that would contradict the rule below
      p.layer_policy = {
          {0, {PolicyKind::kSep, 6}}, {1, {PolicyKind::kFixed, 4, 3}}, {2, {PolicyKind::kFull}}};
      check_static(p, 5, seed);
    }
  }
}

TEST(KvCache, WindowsLongerThanTheTextAreFullAttention) {
  Policy p;
  p.kind = PolicyKind::kSep;
  p.window = 1000;
  check_static(p, 1, 3);
}

TEST(KvCache, DecodingHoldsExactlyWhatTheQuerySees) {
  Policy p;
  p.kind = PolicyKind::kSep;
  p.init = 3;
  p.window = 8;
  const std::vector<int32_t> tokens = random_tokens(100, 7);
  KvCache cache({1, kHeads, kDim, DType::kF32}, p, separators());
  int64_t peak = 0;
  for (const int32_t& token : tokens) {
    cache.begin_chunk({&token, 1});
    write_chunk(cache, 0, 1);
    int64_t visible = 0;
    for (const KeySpan& s : cache.spans(0)) visible += s.range(cache.length()).size();
    EXPECT_EQ(cache.n_slots(0), visible);
    peak = std::max(peak, visible);
    cache.end_chunk();
  }
  EXPECT_EQ(cache.stats().peak_bytes, peak * 2 * kHeads * kDim * 4);
  EXPECT_EQ(cache.stats().peak_keys, peak);
  EXPECT_EQ(cache.stats().full_bytes, 100 * 2 * kHeads * kDim * 4);
}

// docs/METHOD.md#streaming by a list of positions.
struct PlainStream {
  const Policy& policy;
  const std::vector<int32_t>& tokens;
  std::vector<int64_t> slots{};
  int64_t m = 0;

  bool append(int64_t position) {
    slots.push_back(position);
    if (static_cast<int64_t>(slots.size()) <= policy.capacity) return false;
    std::vector<int64_t> next(slots.begin(), slots.begin() + policy.init);
    const auto past_end = static_cast<int64_t>(slots.size()) - policy.window;
    std::vector<int64_t> seps(slots.begin() + policy.init, slots.begin() + policy.init + m);
    if (policy.sep_replace) seps.clear();
    for (int64_t k = policy.init + m; k < past_end; ++k) {
      const int64_t at = slots[static_cast<size_t>(k)];
      // (The segment begins after the last token that is kept, an initial one if there are no others.)
      const int64_t before = !seps.empty()    ? seps.back()
                             : k > 0 && m > 0 ? slots[static_cast<size_t>(policy.init + m - 1)]
                                              : policy.init - 1;
      const bool too_long = policy.max_segment > 0 && at - before >= policy.max_segment;
      if (too_long || separators().contains(tokens[static_cast<size_t>(at)])) seps.push_back(at);
    }
    if (static_cast<int64_t>(seps.size()) > policy.seps) seps.erase(seps.begin(), seps.end() - policy.seps);
    m = static_cast<int64_t>(seps.size());
    next.insert(next.end(), seps.begin(), seps.end());
    next.insert(next.end(), slots.begin() + past_end, slots.end());
    slots = next;
    return true;
  }
};

TEST(KvCache, StreamingEqualsTheFourBlocks) {
  for (uint64_t seed = 0; seed < 40; ++seed) {
    const Rng rng(seed, 3);
    Policy p;
    p.kind = PolicyKind::kSepStream;
    p.positions = PositionMode::kCache;
    p.init = static_cast<int64_t>(rng.bits(0) % 4);
    p.seps = static_cast<int64_t>(rng.bits(1) % 8);
    p.window = 1 + static_cast<int64_t>(rng.bits(2) % 8);
    p.capacity = p.init + p.seps + p.window + 1 + static_cast<int64_t>(rng.bits(3) % 12);
    p.sep_replace = seed % 5 == 4;
    if (seed >= 20) p.max_segment = 1 + static_cast<int64_t>(rng.bits(4) % 6);
    const std::vector<int32_t> tokens = random_tokens(300, seed);
    KvCache cache({2, kHeads, kDim, DType::kF32}, p, separators());
    PlainStream plain{p, tokens};
    for (uint64_t draw = 10; cache.length() < 300; ++draw) {
      const int64_t first = cache.length();
      const int64_t n =
          std::min({300 - first, cache.max_chunk(), 1 + static_cast<int64_t>(rng.bits(draw) % 9)});
      cache.begin_chunk({tokens.data() + first, static_cast<size_t>(n)});
      for (int64_t l = 0; l < 2; ++l) write_chunk(cache, l, n);
      const std::span<const KeySpan> spans = cache.spans(1);
      bool compressed = false;
      for (int64_t i = first; i < first + n; ++i) {
        ASSERT_FALSE(compressed) << "a chunk went past a compression";
        EXPECT_EQ(cache.encoded()[static_cast<size_t>(i - first)], static_cast<int64_t>(plain.slots.size()));
        std::set<int64_t> expected(plain.slots.begin(), plain.slots.end());
        expected.insert(i);
        ASSERT_EQ(seen(spans, 1, i), expected);
        compressed = plain.append(i);
      }
      carry_out(cache, cache.end_chunk());
      ASSERT_EQ(cache.slot_positions(0), plain.slots)
          << "after " << cache.length() << " tokens, seed " << seed;
      ASSERT_EQ(cache.n_separators(), plain.m);
    }
  }
}

TEST(KvCache, CompressesAfterThe801stTokenAndThenEvery477) {
  Policy p;
  p.kind = PolicyKind::kSepStream;
  p.positions = PositionMode::kCache;
  KvCache cache({1, kHeads, kDim, DType::kF32}, p, separators());
  std::vector<int64_t> times;
  const std::vector<int32_t> tokens = random_tokens(6000, 1);
  for (const int32_t& token : tokens) {
    cache.begin_chunk({&token, 1});
    const int64_t before = cache.n_slots(0);
    cache.end_chunk();
    if (cache.n_slots(0) < before) times.push_back(cache.length());
  }
  ASSERT_GE(times.size(), 6U);
  EXPECT_EQ(times[0], 801);
  for (size_t k = 3; k < times.size(); ++k) EXPECT_EQ(times[k] - times[k - 1], 477) << k;
  EXPECT_EQ(cache.stats().peak_keys, 801);
  EXPECT_EQ(cache.stats().peak_bytes, 801 * 2 * kHeads * kDim * 4);
  // c + 1 slots and the blocks of initial tokens and separators: constant however long the stream is.
  EXPECT_LE(cache.stats().reserved_bytes, (801 + 4 + 64) * 2 * kHeads * kDim * 4);
}

TEST(KvCache, UnboundedSeparatorsGrowTheCapacity) {
  Policy p;
  p.kind = PolicyKind::kSepStream;
  p.positions = PositionMode::kCache;
  p.init = 2;
  p.seps = 3;
  p.window = 4;
  p.capacity = 16;
  p.seps_unbounded = true;
  KvCache cache({1, kHeads, kDim, DType::kF32}, p, separators());
  const std::vector<int32_t> tokens = random_tokens(400, 5);
  for (const int32_t& token : tokens) {
    cache.begin_chunk({&token, 1});
    cache.end_chunk();
  }
  // Every separator that left the window is still there.
  std::set<int64_t> held;
  for (const int64_t position : cache.slot_positions(0)) held.insert(position);
  const int64_t oldest_recent = *held.rbegin() - (cache.n_slots(0) - p.init - cache.n_separators()) + 1;
  for (int64_t j = p.init; j < oldest_recent; ++j) {
    EXPECT_EQ(held.contains(j), separators().contains(tokens[static_cast<size_t>(j)])) << j;
  }
  EXPECT_GT(cache.n_separators(), 20);
}

TEST(KvCache, SinkStreamIsSinkWithSlotsForTheInitialTokens) {
  Policy p;
  p.kind = PolicyKind::kSinkStream;
  p.positions = PositionMode::kCache;
  p.init = 2;
  p.capacity = 10;
  KvCache cache({1, kHeads, kDim, DType::kF32}, p, TokenSet(16));
  const std::vector<int32_t> tokens = random_tokens(40, 2);
  cache.begin_chunk(tokens);
  write_chunk(cache, 0, 40);
  for (int64_t i = 0; i < 40; ++i) {
    std::set<int64_t> expected;
    for (int64_t j = 0; j <= i; ++j) {
      if (j < 2 || i - j <= 8)
        expected.insert(j);  // L > c keeps the first a and the last w = c - a, and the query sees itself
    }
    EXPECT_EQ(seen(cache.spans(0), 0, i), expected);
    EXPECT_EQ(cache.second_encoded()[static_cast<size_t>(i)], std::min<int64_t>(i, 10));
    EXPECT_EQ(cache.encoded()[static_cast<size_t>(i)], i);
  }
  cache.end_chunk();
}

TEST(KvCache, AChunkThatWasNotEndedIsTheLast) {
  KvCache cache({1, 1, 4, DType::kF32}, Policy{}, separators());
  const std::vector<int32_t> tokens = {1, 2, 3};
  cache.begin_chunk(tokens);
  EXPECT_THROW(cache.begin_chunk(tokens), CheckFailure);
}

// Room for known tokens is taken once, exactly.
TEST(KvCache, ReservesWhereNothingIsDropped) {
  const std::vector<int32_t> tokens = random_tokens(60, 4);
  Policy p;
  p.kind = PolicyKind::kSep;
  p.window = 5;
  p.layer_window = {{0, kUnlimited}};
  KvCache cache({2, kHeads, kDim, DType::kF32}, p, separators());
  cache.reserve(60);
  EXPECT_EQ(cache.stats().reserved_bytes, 60 * 2 * kHeads * kDim * 4);
  for (const int32_t& token : tokens) {
    cache.begin_chunk({&token, 1});
    cache.end_chunk();
  }
  EXPECT_EQ(cache.n_slots(0), 60);
  EXPECT_LT(cache.stats().reserved_bytes, 2 * 60 * 2 * kHeads * kDim * 4);
}

// int8: the scales are held and counted with the rows, and go where these go.
TEST(KvCache, ScalesGoWithTheirRows) {
  Policy p;
  p.kind = PolicyKind::kSep;
  p.init = 1;
  p.window = 4;
  KvCache cache({1, kHeads, kDim, DType::kI8}, p, separators());
  const int64_t slot_bytes = 2 * kHeads * (kDim + 4);
  EXPECT_EQ(cache.slot_bytes(), slot_bytes);
  const std::vector<int32_t> tokens = random_tokens(120, 8);
  int64_t most = 0;
  for (int64_t first = 0; first < 120; first += 3) {
    cache.begin_chunk({tokens.data() + first, 3});
    void *keys[3], *values[3];
    float *key_scales[3], *value_scales[3];
    int64_t strides[3], scale_strides[3];
    cache.chunk_rows(0, keys, values, strides);
    cache.chunk_scales(0, key_scales, value_scales, scale_strides);
    for (int64_t t = 0; t < 3; ++t) {
      for (int64_t head = 0; head < kHeads; ++head) {
        static_cast<int8_t*>(keys[t])[head * strides[t]] = static_cast<int8_t>(first + t);
        key_scales[t][head * scale_strides[t]] = mark(0, head, first + t);
        value_scales[t][head * scale_strides[t]] = -mark(0, head, first + t);
      }
    }
    cache.rows_written(0);
    most = std::max(most, cache.n_slots(0));
    for (const KeySpan& s : cache.spans(0)) {
      for (int64_t r = 0; r < s.n_keys; ++r) {
        const int64_t position = s.position(r);
        EXPECT_EQ(static_cast<const int8_t*>(s.k)[r * s.slot_stride], position);
        for (int64_t head = 0; head < kHeads; ++head) {
          EXPECT_EQ(s.k_scales[head * s.scale_head_stride + r], mark(0, head, position));
          EXPECT_EQ(s.v_scales[head * s.scale_head_stride + r], -mark(0, head, position));
        }
      }
    }
    cache.end_chunk();
  }
  EXPECT_EQ(cache.stats().peak_bytes, most * slot_bytes);
  EXPECT_EQ(cache.stats().full_bytes, 120 * slot_bytes);
  EXPECT_EQ(cache.stats().reserved_bytes % slot_bytes, 0);
}

// A filled cache against one that really saw the tokens, in other chunks: the same slots now, and at every
// step from here on.
void check_fill(const Policy& policy, DType type, int64_t depth, uint64_t seed) {
  const KvLayout layout{3, kHeads, kDim, type};
  const std::vector<int32_t> tokens = random_tokens(depth + 120, seed);
  KvCache filled(layout, policy, separators()), real(layout, policy, separators());
  filled.fill(
      depth, [&](int64_t position) { return tokens[static_cast<size_t>(position)]; }, seed);
  EXPECT_EQ(filled.stats().queries, 0);
  const Rng rng(seed, 4);
  const auto feed = [&](KvCache& cache, int64_t n) {
    cache.begin_chunk({tokens.data() + cache.length(), static_cast<size_t>(n)});
    for (int64_t l = 0; l < layout.n_layers; ++l) cache.rows_written(l);
    return cache.end_chunk();
  };
  for (uint64_t draw = 0; real.length() < depth; ++draw) {
    const int64_t left = std::max<int64_t>(1, depth - 1 - real.length());
    feed(real, std::min({left, real.max_chunk(), 1 + static_cast<int64_t>(rng.bits(draw) % 9)}));
  }
  for (int64_t step = 0;; ++step) {
    ASSERT_EQ(filled.length(), real.length());
    ASSERT_EQ(filled.max_chunk(), real.max_chunk());
    ASSERT_EQ(filled.n_separators(), real.n_separators());
    for (int64_t l = 0; l < layout.n_layers; ++l) {
      ASSERT_EQ(filled.slot_positions(l), real.slot_positions(l)) << "layer " << l << " step " << step;
      ASSERT_EQ(filled.slot_tokens(l), real.slot_tokens(l));
    }
    if (step == 120) break;
    const size_t n_moves = feed(filled, 1).size();
    ASSERT_EQ(feed(real, 1).size(), n_moves);
    ASSERT_EQ(std::vector<int64_t>(filled.encoded().begin(), filled.encoded().end()),
              std::vector<int64_t>(real.encoded().begin(), real.encoded().end()));
  }
  EXPECT_GT(filled.stats().queries, 0);
}

Policy small_policy(PolicyKind kind) {
  Policy p;
  p.kind = kind;
  p.init = 3;
  p.window = 7;
  p.seps = 5;
  p.capacity = 20;
  p.interval = 4;
  p.block_size = 6;
  if (p.streaming()) p.positions = PositionMode::kCache;
  return p;
}

constexpr PolicyKind kAllKinds[] = {PolicyKind::kFull, PolicyKind::kSep,        PolicyKind::kSepStream,
                                    PolicyKind::kSink, PolicyKind::kSinkStream, PolicyKind::kFixed,
                                    PolicyKind::kMoba, PolicyKind::kSepMoba,    PolicyKind::kNsa};

TEST(KvCacheFill, IsAsIfTheTokensHadCome) {
  for (const PolicyKind kind : kAllKinds) {
    SCOPED_TRACE(policy_name(kind));
    for (const int64_t depth : {0, 1, 3, 6, 7, 20, 21, 500, 1100}) {
      SCOPED_TRACE(depth);
      check_fill(small_policy(kind), DType::kF32, depth, static_cast<uint64_t>(depth) + 1);
    }
  }
  Policy layered = small_policy(PolicyKind::kSep);
  layered.layer_window = {{0, kUnlimited}, {-1, 3}};
  check_fill(layered, DType::kF16, 900, 7);
  Policy unbounded = small_policy(PolicyKind::kSepStream);
  unbounded.seps_unbounded = true;
  check_fill(unbounded, DType::kI8, 900, 8);
  Policy replace = small_policy(PolicyKind::kSepStream);
  replace.sep_replace = true;
  replace.positions = PositionMode::kOriginal;
  check_fill(replace, DType::kBF16, 900, 9);
}

float element(DType type, const void* row, int64_t i) {
  switch (type) {
    case DType::kF16:
      return to_float(static_cast<const f16*>(row)[i]);
    case DType::kBF16:
      return to_float(static_cast<const bf16*>(row)[i]);
    case DType::kI8:
      return static_cast<const int8_t*>(row)[i];
    default:
      return static_cast<const float*>(row)[i];
  }
}

TEST(KvCacheFill, EveryRowIsWritten) {
  for (const DType type : {DType::kF32, DType::kF16, DType::kBF16, DType::kI8}) {
    for (const PolicyKind kind : kAllKinds) {
      // Rows of 8-bit values as long as their scales, among them.
      const KvLayout layout{2, kHeads, 4, type};
      KvCache cache(layout, small_policy(kind), separators());
      const std::vector<int32_t> tokens = random_tokens(4000, 3);
      cache.fill(
          3999, [&](int64_t position) { return tokens[static_cast<size_t>(position)]; }, 1);
      cache.begin_chunk({tokens.data() + 3999, 1});
      int64_t rows = 0;
      for (const KeySpan& s : cache.spans(1)) {
        for (int64_t r = 0; r < s.n_keys; ++r) {
          if (s.kind == KeySpan::Kind::kBand && s.position(r) == 3999) continue;  // the new token's own
          ++rows;
          for (int64_t head = 0; head < kHeads; ++head) {
            float sum = 0;
            for (int64_t i = 0; i < 4; ++i) {
              const int64_t at = head * s.head_stride + r * s.slot_stride + i;
              float k = element(type, s.k, at), v = element(type, s.v, at);
              if (type == DType::kI8) {
                k *= s.k_scales[head * s.scale_head_stride + r];
                v *= s.v_scales[head * s.scale_head_stride + r];
              }
              ASSERT_TRUE(std::abs(k) <= 1 && std::abs(v) <= 1) << dtype_name(type);
              sum += std::abs(k) + std::abs(v);
            }
            ASSERT_GT(sum, 0.0F) << dtype_name(type) << " " << policy_name(kind) << " row " << r;
          }
        }
      }
      EXPECT_EQ(rows, cache.n_slots(1) - 1);
    }
  }
}

TEST(KvCacheFill, FourMillionTokensOfAStream) {
  const Policy p = [] {
    Policy out;
    out.kind = PolicyKind::kSepStream;
    out.positions = PositionMode::kCache;
    return out;
  }();
  KvCache cache({2, kHeads, kDim, DType::kF16}, p, separators());
  const Rng rng(5);
  cache.fill(
      4'000'000,
      [&](int64_t position) { return static_cast<int32_t>(rng.bits(static_cast<uint64_t>(position)) % 16); },
      1);
  EXPECT_EQ(cache.length(), 4'000'000);
  EXPECT_EQ(cache.n_separators(), 64);
  // The block was full at the second compression, 478 to 536 tokens after the first; then one every 477.
  EXPECT_GE(cache.n_slots(0), 4 + 64 + 256);
  EXPECT_LE(cache.n_slots(0), 800);
  EXPECT_EQ(cache.slot_positions(1).back(), 3'999'999);
  EXPECT_LE(cache.stats().reserved_bytes, 2 * (801 + 4 + 64) * cache.slot_bytes());
}

TEST(KvCache, RefusesSettingsThatContradictEachOther) {
  Policy p;
  p.kind = PolicyKind::kSepStream;
  p.capacity = 324;  // = a + s + w
  EXPECT_THROW(KvCache({1, 1, 4, DType::kF32}, p, separators()), Error);
  Policy q;
  q.kind = PolicyKind::kSep;
  q.layer_window = {{5, 3}};
  EXPECT_THROW(KvCache({2, 1, 4, DType::kF32}, q, separators()), Error);
}

}  // namespace
}  // namespace sepllm
