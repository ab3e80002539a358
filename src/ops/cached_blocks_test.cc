// Attention to caches whose queries choose among blocks: a stream in any chunks gives what the pattern gives
// for the whole text at once, from the keys as the cache stores them; and so do its copies and its states.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "attention/block_rule.h"
#include "base/bytes.h"
#include "base/rng.h"
#include "kernels/attention/pattern_attention.h"
#include "kernels/formats/rows.h"
#include "ops/cached_attention.h"

namespace sepllm {
namespace {

constexpr int64_t kBlockTokens = 150, kBlockLayers = 2, kBlockDim = 16;

TokenSet block_separators() {
  TokenSet set(8);
  set.insert(3);
  return set;
}

// Queries, keys and values of a text in all layers: [layer][token][head][dim].
class BlockStream {
 public:
  BlockStream(const Policy& policy, DType type, int64_t group, int64_t n_kv_heads, uint64_t seed)
      : policy_(policy), type_(type), n_heads_(group * n_kv_heads), n_kv_heads_(n_kv_heads), rng_(seed) {
    for (int64_t t = 0; t < kBlockTokens; ++t)
      tokens_.push_back(static_cast<int32_t>(rng_.bits(draw_++) % 8));
    for (auto* x : {&q_, &k_, &v_}) {
      x->resize(
          static_cast<size_t>(kBlockLayers * kBlockTokens * (x == &q_ ? n_heads_ : n_kv_heads_) * kBlockDim));
      for (float& e : *x) e = static_cast<float>(2 * rng_.uniform(draw_++) - 1) * (x == &q_ ? 3.0F : 1.0F);
    }
    for (int64_t h = 0; h < n_heads_; ++h) slopes_.push_back(0.1F / static_cast<float>(h + 1));
  }

  KvCache cache() const {
    return KvCache({kBlockLayers, n_kv_heads_, kBlockDim, type_}, policy_, block_separators());
  }

  // Feeds tokens up to `end`, in chunks of 1 to `most`; out: [layer][token][head][dim].
  void feed(const Context& ctx, KvCache* cache, int64_t end, int64_t most, std::vector<float>* out) const {
    out->resize(q_.size());
    uint64_t draw = 77;
    while (cache->length() < end) {
      const int64_t begin = cache->length();
      const int64_t n =
          std::min(end - begin, 1 + static_cast<int64_t>(rng_.bits(draw++) % static_cast<uint64_t>(most)));
      const std::vector<ops::CachedRows> rows{
          {cache, std::span(tokens_).subspan(static_cast<size_t>(begin), static_cast<size_t>(n))}};
      ops::begin_chunks(rows);
      for (int64_t l = 0; l < kBlockLayers; ++l) {
        ops::cached_attend(ctx,
                           {.layer = l,
                            .scale = 0.25F,
                            .q = heads(q_, l, begin, n_heads_),
                            .k = heads(k_, l, begin, n_kv_heads_),
                            .v = heads(v_, l, begin, n_kv_heads_),
                            .out = heads(*out, l, begin, n_heads_),
                            .alibi_slopes = slopes_.data()},
                           rows);
      }
      ops::end_chunks(ctx, ops::RopeSpec{}, rows);
    }
  }

  // The whole text at once by the pattern, from keys and values as the cache stores them. keys: how many keys
  // all queries and heads see.
  std::vector<float> expected(const Context& ctx, double* keys) const {
    const std::vector<float> k = stored(k_), v = stored(v_);
    std::vector<float> out(q_.size());
    *keys = 0;
    for (int64_t l = 0; l < kBlockLayers; ++l) {
      const Pattern pattern =
          policy_.pattern(tokens_.data(), kBlockTokens, block_separators(), l, kBlockLayers);
      const int64_t n_chosen = std::max<int64_t>(0, pattern.blocks.count - 1);
      std::vector<int32_t> chosen(static_cast<size_t>(kBlockTokens * n_heads_ * n_chosen));
      const PatternSequence sequence{.n_rows = kBlockTokens, .pattern = &pattern, .chosen = chosen.data()};
      pattern_attention(ctx, {.scale = 0.25F,
                              .q = heads(q_, l, 0, n_heads_),
                              .k = heads(k, l, 0, n_kv_heads_),
                              .v = heads(v, l, 0, n_kv_heads_),
                              .out = heads(out, l, 0, n_heads_),
                              .alibi_slopes = slopes_.data(),
                              .sequences = {&sequence, 1}});
      if (n_chosen == 0) {
        *keys += static_cast<double>(pattern.visible_pairs(kBlockTokens) * n_heads_);
        continue;
      }
      const std::vector<int64_t>& starts = pattern.blocks.starts;
      for (int64_t i = 0; i < kBlockTokens * n_heads_; ++i) {
        const int64_t position = i / n_heads_;
        *keys += static_cast<double>(position - starts[static_cast<size_t>(block_of(starts, position))] + 1);
        for (int64_t c = 0; c < n_chosen; ++c) {
          const int32_t b = chosen[static_cast<size_t>(i * n_chosen + c)];
          if (b >= 0)
            *keys += static_cast<double>(starts[static_cast<size_t>(b) + 1] - starts[static_cast<size_t>(b)]);
        }
      }
    }
    return out;
  }
  int64_t n_heads() const { return n_heads_; }

 private:
  static Heads heads(const std::vector<float>& x, int64_t layer, int64_t token, int64_t n) {
    auto* data = const_cast<float*>(x.data()) + (layer * kBlockTokens + token) * n * kBlockDim;
    return {data, n * kBlockDim, HeadLayout::dense(n, kBlockDim)};
  }
  std::vector<float> stored(const std::vector<float>& x) const {
    std::vector<float> out(x.size());
    for (size_t at = 0; at < x.size(); at += kBlockDim) {
      char row[kBlockDim * sizeof(float)];
      if (type_ == DType::kI8) {
        const float scale = quantize_row(x.data() + at, kBlockDim, reinterpret_cast<int8_t*>(row));
        row_to_f32(type_, row, kBlockDim, out.data() + at);
        for (size_t d = 0; d < kBlockDim; ++d) out[at + d] *= scale;
      } else {
        row_from_f32(type_, x.data() + at, kBlockDim, row);
        row_to_f32(type_, row, kBlockDim, out.data() + at);
      }
    }
    return out;
  }

  Policy policy_;
  DType type_;
  int64_t n_heads_, n_kv_heads_;
  Rng rng_;
  uint64_t draw_ = 1000;
  std::vector<int32_t> tokens_;
  std::vector<float> q_, k_, v_, slopes_;
};

std::vector<std::pair<std::string, Policy>> block_policies() {
  std::vector<std::pair<std::string, Policy>> out;
  const auto add = [&](const char* name, PolicyKind kind, int64_t size, int64_t blocks) -> Policy& {
    out.emplace_back(name, Policy{});
    Policy& p = out.back().second;
    p.kind = kind;
    p.block_size = size;
    p.blocks = blocks;
    p.window = 9;
    return p;
  };
  add("moba", PolicyKind::kMoba, 8, 4);
  add("single", PolicyKind::kMoba, 1, 6);
  add("own", PolicyKind::kMoba, 10, 1);
  add("sep-moba", PolicyKind::kSepMoba, 5, 3);
  add("mixed", PolicyKind::kMoba, 6, 3).layer_policy = {{0, {PolicyKind::kSep, 9}}};
  return out;
}

TEST(CachedBlocks, AnyChunksGiveWhatThePatternGives) {
  ThreadPool pool(2);
  Arena arena;
  const Context ctx{.pool = pool, .arena = arena, .block_products = BlockProducts::kExact};
  uint64_t seed = 1;
  for (const auto& [name, policy] : block_policies()) {
    for (const DType type : {DType::kF32, DType::kF16, DType::kBF16, DType::kI8}) {
      for (const int64_t most : {1, 12, 60}) {
        SCOPED_TRACE(testing::Message() << name << " " << dtype_name(type) << " chunks up to " << most);
        const BlockStream stream(policy, type, 1 + static_cast<int64_t>(seed % 3), 2, seed);
        ++seed;
        KvCache cache = stream.cache();
        std::vector<float> out;
        stream.feed(ctx, &cache, kBlockTokens, most, &out);
        double keys = 0;
        const std::vector<float> expected = stream.expected(ctx, &keys);
        float worst = 0;
        for (size_t i = 0; i < out.size(); ++i) worst = std::max(worst, std::abs(out[i] - expected[i]));
        EXPECT_LE(worst, 1e-5F);
        // (Rounded to whole keys for each query and layer.)
        EXPECT_NEAR(static_cast<double>(cache.stats().keys), keys / static_cast<double>(stream.n_heads()),
                    policy.kind == PolicyKind::kSepMoba ? kBlockTokens * kBlockLayers / 2.0 : 0.5);
        EXPECT_EQ(cache.stats().full_keys, kBlockLayers * kBlockTokens * (kBlockTokens + 1) / 2);
      }
    }
  }
}

// A copy, a loaded state and a cache that was cut have the same bits as one that was never interrupted,
// whether they hold the means of blocks or compute them again.
TEST(CachedBlocks, CopiesStatesAndCutsHaveTheSameBits) {
  ThreadPool pool(2);
  Arena arena;
  const Context ctx{pool, arena};
  for (const auto& [name, policy] : block_policies()) {
    for (const DType type : {DType::kF32, DType::kI8}) {
      SCOPED_TRACE(testing::Message() << name << " " << dtype_name(type));
      const BlockStream stream(policy, type, 2, 2, 9);
      KvCache cache = stream.cache();
      std::vector<float> ignored, expected;
      stream.feed(ctx, &cache, 83, 12, &ignored);
      KvCache copy = cache.copy(), again = stream.cache();
      std::string bytes;
      StringWriter writer(&bytes);
      cache.save(writer);
      ByteReader reader(bytes, "state", "cache");
      again.restore(reader, 64);
      stream.feed(ctx, &cache, 140, 5, &expected);
      std::vector<KvCache*> others{&copy, &again};
      KvCache cut = stream.cache();
      if (cut.drops_nothing()) {
        stream.feed(ctx, &cut, 120, 12, &ignored);
        // (Up to 83 in the same chunks as the others.)
        KvCache first = stream.cache();
        stream.feed(ctx, &first, 83, 12, &ignored);
        stream.feed(ctx, &first, 120, 7, &ignored);
        first.cut(83);
        cut = std::move(first);
        others.push_back(&cut);
      }
      for (KvCache* other : others) {
        std::vector<float> out;
        stream.feed(ctx, other, 140, 5, &out);
        const auto at = [&](const std::vector<float>& x, int64_t l) {
          return x.data() + (l * kBlockTokens + 83) * stream.n_heads() * kBlockDim;
        };
        for (int64_t l = 0; l < kBlockLayers; ++l) {
          EXPECT_EQ(
              0, std::memcmp(at(out, l), at(expected, l),
                             static_cast<size_t>((140 - 83) * stream.n_heads() * kBlockDim) * sizeof(float)));
        }
      }
    }
  }
}

TEST(CachedBlocks, MeansAreHeldAndCounted) {
  ThreadPool pool(1);
  Arena arena;
  const Context ctx{pool, arena};
  Policy policy;
  policy.kind = PolicyKind::kMoba;
  policy.block_size = 8;
  const BlockStream stream(policy, DType::kF16, 1, 2, 4);
  KvCache cache = stream.cache();
  std::vector<float> out;
  stream.feed(ctx, &cache, 100, 10, &out);
  EXPECT_EQ(cache.held_means(), kBlockLayers * 12);
  EXPECT_EQ(cache.held_bytes(), kBlockLayers * (100 * cache.slot_bytes() + 12 * 2 * kBlockDim * 4));
  EXPECT_EQ(cache.stats().peak_bytes, cache.held_bytes());
  EXPECT_GE(cache.stats().reserved_bytes, cache.held_bytes());
}

}  // namespace
}  // namespace sepllm
