// NSA through KV caches: chunks of any size and single tokens give what the attention of the whole sequence
// gives, by the same weights, also after a state, a copy and a cut.
#include "ops/cached_nsa.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "base/rng.h"
#include "ops/nsa.h"

namespace sepllm {
namespace {

constexpr int64_t kNsaTokens = 150, kNsaLayers = 2;

struct NsaShape {
  int64_t n_heads, n_kv_heads, dim;
};

Policy nsa_policy(int64_t block_size, int64_t blocks, int64_t window) {
  Policy policy;
  policy.kind = PolicyKind::kNsa;
  policy.block_size = block_size;
  policy.blocks = blocks;
  policy.window = window;
  return policy;
}

// The operands of a sequence: [token][heads][dim], the same in all layers, and gates [token][3 heads].
class NsaStream {
 public:
  NsaStream(const NsaShape& shape, const Policy& policy, uint64_t seed)
      : shape_(shape), policy_(policy), tokens_(kNsaTokens, 1) {
    q_ = draw(shape.n_heads * shape.dim, seed, 3);
    k_ = draw(shape.n_kv_heads * shape.dim, seed + 1, 1);
    v_ = draw(shape.n_kv_heads * shape.dim, seed + 2, 1);
    gates_ = draw(3 * shape.n_heads, seed + 3, 1);
  }

  // Of all tokens at once.
  std::vector<float> whole() {
    const NsaSequence sequence{.n_rows = kNsaTokens};
    std::vector<float> out(q_.size());
    ops::nsa_attend(ctx_, {.rule = nsa_rule(policy_.rule(0, kNsaLayers).blocks),
                           .scale = 0.5F,
                           .q = heads(q_, shape_.n_heads, 0),
                           .k = heads(k_, shape_.n_kv_heads, 0),
                           .v = heads(v_, shape_.n_kv_heads, 0),
                           .gates = {gates_.data(), kNsaTokens, 3 * shape_.n_heads, 3 * shape_.n_heads},
                           .out = heads(out, shape_.n_heads, 0),
                           .sequences = {&sequence, 1}});
    return out;
  }

  KvCache cache(DType type = DType::kF32) const {
    return {{kNsaLayers, shape_.n_kv_heads, shape_.dim, type}, policy_, TokenSet(4)};
  }

  // The next n tokens; their outputs go to the same rows of `out`.
  void feed(KvCache* cache, int64_t n, std::vector<float>* out) {
    const int64_t at = cache->length();
    const ops::CachedRows rows{.cache = cache, .tokens = std::span(tokens_).subspan(at, n)};
    ops::begin_chunks({&rows, 1});
    for (int64_t l = 0; l < kNsaLayers; ++l) {
      ops::cached_attend(
          ctx_,
          {.layer = l,
           .scale = 0.5F,
           .q = heads(q_, shape_.n_heads, at),
           .k = heads(k_, shape_.n_kv_heads, at),
           .v = heads(v_, shape_.n_kv_heads, at),
           .out = heads(*out, shape_.n_heads, at),
           .gates = {gates_.data() + at * 3 * shape_.n_heads, n, 3 * shape_.n_heads, 3 * shape_.n_heads}},
          {&rows, 1});
    }
    ops::end_chunks(ctx_, ops::RopeSpec(), {&rows, 1});
  }

  std::vector<float> in_chunks(KvCache* cache, const std::vector<int64_t>& sizes) {
    std::vector<float> out(q_.size(), NAN);
    for (size_t i = 0; cache->length() < kNsaTokens; ++i)
      feed(cache, std::min(sizes[i % sizes.size()], kNsaTokens - cache->length()), &out);
    return out;
  }

 private:
  static std::vector<float> draw(int64_t width, uint64_t seed, float size) {
    const Rng rng(seed);
    std::vector<float> out(static_cast<size_t>(kNsaTokens * width));
    for (size_t e = 0; e < out.size(); ++e) out[e] = size * static_cast<float>(rng.normal(e));
    return out;
  }
  Heads heads(std::vector<float>& values, int64_t n, int64_t first_row) const {
    return Heads{values.data(), n * shape_.dim, HeadLayout::dense(n, shape_.dim)}.rows(first_row);
  }

  NsaShape shape_;
  Policy policy_;
  std::vector<int32_t> tokens_;
  std::vector<float> q_, k_, v_, gates_;
  ThreadPool pool_{2};
  Arena arena_;
  Context ctx_{pool_, arena_};
};

double furthest(const std::vector<float>& a, const std::vector<float>& b, size_t from = 0) {
  double worst = 0;
  for (size_t e = from; e < a.size(); ++e) {
    const double d = std::abs(static_cast<double>(a[e]) - b[e]);
    worst = std::isnan(d) ? INFINITY : std::max(worst, d);
  }
  return worst;
}

TEST(CachedNsa, ChunksAndSingleTokensAgreeWithTheWholeSequence) {
  uint64_t seed = 1;
  for (const NsaShape& shape : {NsaShape{4, 2, 8}, {6, 1, 20}, {2, 2, 64}}) {
    for (const Policy& policy : {nsa_policy(8, 4, 12), nsa_policy(5, 3, 1), nsa_policy(16, 16, 200)}) {
      NsaStream stream(shape, policy, seed += 10);
      const std::vector<float> expected = stream.whole();
      for (const std::vector<int64_t>& sizes : {std::vector<int64_t>{1}, {40, 1, 1, 7}, {kNsaTokens}, {64}}) {
        KvCache cache = stream.cache();
        EXPECT_LE(furthest(stream.in_chunks(&cache, sizes), expected), 2e-5) << seed;
      }
    }
  }
}

TEST(CachedNsa, SmallerTypesOfKeysAreNear) {
  NsaStream stream({4, 2, 32}, nsa_policy(8, 16, 300), 7);  // (all blocks: rounding changes no choice)
  const std::vector<float> expected = stream.whole();
  for (const auto& [type, bound] : {std::pair{DType::kF16, 2e-2}, {DType::kBF16, 1e-1}, {DType::kI8, 2e-1}}) {
    KvCache cache = stream.cache(type);
    EXPECT_LE(furthest(stream.in_chunks(&cache, {30, 1, 1}), expected), bound);
  }
}

// Copies, states and cuts give the same bits.
TEST(CachedNsa, ContinuesFromStatesCopiesAndCuts) {
  NsaStream stream({4, 2, 8}, nsa_policy(8, 4, 12), 3);
  KvCache first = stream.cache();
  std::vector<float> out(static_cast<size_t>(kNsaTokens * 32), NAN);
  while (first.length() < 60) stream.feed(&first, 20, &out);
  std::string state;
  StringWriter writer(&state);
  first.save(writer);
  KvCache copy = first.copy(), restored = stream.cache();
  ByteReader reader(state, "a state", "");
  restored.restore(reader, 64);
  const std::vector<float> expected = stream.in_chunks(&first, {20, 1});
  const size_t from = 60 * 32;
  EXPECT_EQ(furthest(stream.in_chunks(&copy, {20, 1}), expected, from), 0);
  EXPECT_EQ(furthest(stream.in_chunks(&restored, {20, 1}), expected, from), 0);
  first.cut(60);
  EXPECT_EQ(furthest(stream.in_chunks(&first, {20, 1}), expected, from), 0);
}

// Keys are the distinct tokens of the selected blocks and the window, and the means of complete blocks; bytes
// are those of all tokens and of the means.
TEST(CachedNsa, CountsKeysAndBytes) {
  const Policy policy = nsa_policy(4, 4, 6);
  NsaStream stream({2, 2, 8}, policy, 5);
  KvCache cache = stream.cache();
  stream.in_chunks(&cache, {50, 1});
  const KvStats stats = cache.stats();
  EXPECT_EQ(stats.queries, kNsaTokens * kNsaLayers);
  const int64_t row = 2 * 2 * 8 * 4;  // bytes of a key and a value, or of their means, in both heads
  EXPECT_EQ(cache.held_bytes(), kNsaLayers * (kNsaTokens + kNsaTokens / 4) * row);
  // Of query 147, the last one of its block: its own block and three others, of which the one before contains
  // the rest of the window; and 37 means.
  EXPECT_EQ(stats.peak_keys, 4 + 3 * 4 + 37);
}

TEST(NsaRule, CountsDistinctKeys) {
  const NsaRule rule{.block_size = 4, .blocks = 4, .window = 6};
  for (const std::vector<int32_t>& chosen : {std::vector<int32_t>{0, 2, 6}, {0, 6, -1}, {0, 5, 6}}) {
    for (const int64_t i : {28, 29, 31}) {  // in block 7
      std::set<int64_t> seen;
      for (int64_t j = 0; j <= i; ++j) {
        const bool in_block = std::find(chosen.begin(), chosen.end(), j / 4) != chosen.end();
        if (in_block || j / 4 == 7 || i - j < rule.window) seen.insert(j);
      }
      EXPECT_EQ(nsa_keys(rule, i, chosen.data()), std::ssize(seen) + (i + 1) / 4);
    }
  }
  EXPECT_EQ(nsa_pairs(rule, 29), 7 + (3 * 4 + 2) + 6);
  EXPECT_EQ(nsa_pairs(rule, 2), 0 + 3 + 3);
}

}  // namespace
}  // namespace sepllm
