// Cached attention without a model: every policy, with rotary positions, ALiBi and neither. The reference is
// a plain simulation in double that keeps all keys and applies the definition of its policy to one query
// after another.
#include "ops/cached_attention.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/rng.h"

namespace sepllm {
namespace {

constexpr int32_t kVocabulary = 16;
constexpr int64_t kLayers = 2, kTokens = 160;

TokenSet separators() {
  TokenSet set(kVocabulary);
  for (const int32_t id : {3, 7, 8}) set.insert(id);
  return set;
}

std::vector<int32_t> random_tokens(uint64_t seed) {
  const Rng rng(seed);
  std::vector<int32_t> out;
  for (int64_t k = 0; k < kTokens; ++k) out.push_back(static_cast<int32_t>(rng.bits(k) % kVocabulary));
  return out;
}

enum class Positions { kNone, kRope, kAlibi };

struct Shape {
  int64_t n_heads, n_kv_heads, head_dim;
  int64_t group() const { return n_heads / n_kv_heads; }
};

// ---- The simulation ----

// One key that a query sees: its position in the stream, and the places that the position encoding gives to
// the key and the query.
struct Seen {
  int64_t position, key_place, query_place;
};

// The four blocks of sep-stream as a list of slots (docs/METHOD.md).
struct Blocks {
  Policy policy;
  std::vector<int64_t> slots{};  // positions in block order
  int64_t n_seps = 0, excess = 0;

  // Called when the token at the end of the stream has attended.
  void append(int64_t position, const std::vector<int32_t>& tokens) {
    slots.push_back(position);
    if (std::ssize(slots) <= policy.capacity + excess) return;
    const auto past = slots.begin() + policy.init + n_seps, local = slots.end() - policy.window;
    std::vector<int64_t> seps(slots.begin() + policy.init, past);
    if (policy.sep_replace) seps.clear();
    std::copy_if(past, local, std::back_inserter(seps),
                 [&](int64_t p) { return separators().contains(tokens[p]); });
    if (!policy.seps_unbounded && std::ssize(seps) > policy.seps)
      seps.erase(seps.begin(), seps.end() - policy.seps);
    n_seps = std::ssize(seps);
    if (policy.seps_unbounded) excess = std::max(excess, n_seps - policy.seps);
    std::vector<int64_t> next(slots.begin(), slots.begin() + policy.init);
    next.insert(next.end(), seps.begin(), seps.end());
    next.insert(next.end(), local, slots.end());
    slots = next;
  }
};

// The keys of query i in one layer, for all i.
std::vector<std::vector<Seen>> simulate(const Policy& policy, const std::vector<int32_t>& tokens,
                                        int64_t layer) {
  std::vector<std::vector<Seen>> out(tokens.size());
  const int64_t n = std::ssize(tokens);
  const bool by_slot = policy.positions == PositionMode::kCache;
  if (policy.kind == PolicyKind::kSepStream) {
    Blocks blocks{policy};
    for (int64_t i = 0; i < n; ++i) {
      const int64_t end = std::ssize(blocks.slots);  // the query's own slot
      for (int64_t k = 0; k < end; ++k) {
        const int64_t j = blocks.slots[k];
        out[i].push_back(by_slot ? Seen{j, k, end} : Seen{j, j, i});
      }
      out[i].push_back(by_slot ? Seen{i, end, end} : Seen{i, i, i});
      blocks.append(i, tokens);
    }
    return out;
  }
  const Pattern pattern = policy.pattern(tokens.data(), n, separators(), layer, kLayers);
  for (int64_t i = 0; i < n; ++i) {
    // sink-stream by slots: true distances in the window, and the query's slot towards the initial tokens.
    const bool stream = policy.kind == PolicyKind::kSinkStream && by_slot;
    for (int64_t j = 0; j <= i; ++j) {
      if (!pattern.visible(i, j)) continue;
      const bool initial = stream && i - j >= pattern.window;
      out[i].push_back({j, j, initial ? std::min(i, policy.capacity) : i});
    }
  }
  return out;
}

// Pairs (d, d + n_freq) of a head turned by place * inv_freq.
std::vector<double> rotated(const float* head, int64_t dim, const std::vector<double>& inv_freq,
                            int64_t place) {
  std::vector<double> out(head, head + dim);
  const int64_t n = std::ssize(inv_freq);
  for (int64_t f = 0; f < n; ++f) {
    const double angle = static_cast<double>(place) * inv_freq[f];
    const double c = std::cos(angle), s = std::sin(angle), a = head[f], b = head[f + n];
    out[f] = a * c - b * s;
    out[f + n] = b * c + a * s;
  }
  return out;
}

// ---- A stream and its operands ----

// A sequence with its own policy: queries, keys and values of all tokens and layers, and the outputs.
struct Stream {
  Policy policy;
  std::vector<int32_t> tokens;
  std::unique_ptr<KvCache> cache;
  std::vector<float> q, k, v;  // [layer][token][head][dim], not rotated
  std::vector<float> out;      // [layer][token][head][dim]
};

class Case {
 public:
  Case(const Shape& shape, Positions positions, DType type, uint64_t seed)
      : shape_(shape), positions_(positions), type_(type), rng_(seed) {
    if (positions == Positions::kRope) inv_freq_ = {1.0, 0.3, 0.02};
    for (int64_t h = 0; h < shape.n_heads; ++h) slopes_.push_back(std::exp2(-static_cast<float>(h + 1)));
  }

  void add(const Policy& policy) {
    const uint64_t seed = streams_.size() + 1;
    Stream s{policy, random_tokens(seed), nullptr, {}, {}, {}, {}};
    s.cache = std::make_unique<KvCache>(KvLayout{kLayers, shape_.n_kv_heads, shape_.head_dim, type_}, policy,
                                        separators());
    const Rng rng(seed, 7);
    const auto fill = [&](std::vector<float>& x, int64_t n_heads, uint64_t salt) {
      x.resize(kLayers * kTokens * n_heads * shape_.head_dim);
      for (size_t e = 0; e < x.size(); ++e) x[e] = static_cast<float>(2 * rng.uniform(e * 4 + salt) - 1);
    };
    fill(s.q, shape_.n_heads, 0);
    fill(s.k, shape_.n_kv_heads, 1);
    fill(s.v, shape_.n_kv_heads, 2);
    s.out.resize(s.q.size());
    streams_.push_back(std::move(s));
  }

  // Runs all tokens of all streams, in chunks of 1 to 9.
  void run(const Context& ctx) {
    while (pass(ctx)) {
    }
  }

  // The largest error of any output.
  double worst() const {
    double worst = 0;
    for (const Stream& s : streams_) {
      for (int64_t l = 0; l < kLayers; ++l) {
        const std::vector<std::vector<Seen>> seen = simulate(s.policy, s.tokens, l);
        for (int64_t i = 0; i < kTokens; ++i) {
          for (int64_t h = 0; h < shape_.n_heads; ++h) worst = std::max(worst, error(s, l, i, h, seen[i]));
        }
      }
    }
    return worst;
  }

 private:
  // Fused rows as a model's projection writes them: each group has its queries, its key and its value.
  HeadLayout query_layout() const {
    const int64_t d = shape_.head_dim, g = shape_.group();
    return {.n = shape_.n_heads, .dim = d, .group = g, .stride = d, .group_stride = (g + 2) * d};
  }
  HeadLayout kv_layout(int64_t after) const {
    const int64_t d = shape_.head_dim, g = shape_.group();
    return HeadLayout::even(shape_.n_kv_heads, d, (g + 2) * d, (g + after) * d);
  }
  int64_t row_size() const { return shape_.n_kv_heads * query_layout().group_stride; }

  // Runs one chunk of every stream that has tokens left; false if none has.
  bool pass(const Context& ctx) {
    std::vector<ops::CachedRows> rows;
    std::vector<Stream*> members;
    int64_t n_rows = 0;
    for (Stream& s : streams_) {
      const int64_t done = s.cache->length();
      const int64_t n =
          std::min({kTokens - done, s.cache->max_chunk(), 1 + static_cast<int64_t>(rng_.bits(draw_++) % 9)});
      if (n == 0) continue;
      rows.push_back({s.cache.get(), std::span(s.tokens).subspan(done, n), n_rows});
      members.push_back(&s);
      n_rows += n;
    }
    if (rows.empty()) return false;
    const ops::RopeSpec rope{inv_freq_, RopePairing::kHalf};
    ops::begin_chunks(rows);
    for (int64_t l = 0; l < kLayers; ++l) layer(ctx, rope, rows, members, l, n_rows);
    ops::end_chunks(ctx, rope, rows);
    return true;
  }

  void layer(const Context& ctx, const ops::RopeSpec& rope, const std::vector<ops::CachedRows>& rows,
             const std::vector<Stream*>& members, int64_t l, int64_t n_rows) {
    const Arena::Scope scope(ctx.arena);
    std::vector<float> qkv(n_rows * row_size()), second(qkv.size()),
        attended(n_rows * shape_.n_heads * shape_.head_dim);
    const Heads q{qkv.data(), row_size(), query_layout()}, k{qkv.data(), row_size(), kv_layout(0)},
        v{qkv.data(), row_size(), kv_layout(1)}, second_q{second.data(), row_size(), query_layout()};
    const Heads out{attended.data(), shape_.n_heads * shape_.head_dim,
                    HeadLayout::dense(shape_.n_heads, shape_.head_dim)};
    bool any_second = false;
    for (size_t m = 0; m < rows.size(); ++m) {
      const Stream& s = *members[m];
      const int64_t first = l * kTokens + s.cache->length(), n = rows[m].n_rows(), at = rows[m].first_row;
      copy(s.q, first, n, q.rows(at));
      copy(s.k, first, n, k.rows(at));
      copy(s.v, first, n, v.rows(at));
      copy(s.q, first, n, second_q.rows(at));
      const bool has_second = !s.cache->second_encoded().empty();
      any_second = any_second || has_second;
      if (!rope.rotates()) continue;
      ops::RopeOperands o{.q = q.rows(at),
                          .k = k.rows(at),
                          .n_rows = n,
                          .first = ops::rope_tables(ctx, rope, s.cache->encoded())};
      if (has_second) {
        o.second = ops::rope_tables(ctx, rope, s.cache->second_encoded());
        o.second_q = second_q.rows(at);
      }
      ops::rope(ctx, o);
    }
    ops::cached_attend(ctx,
                       {.layer = l,
                        .scale = scale(),
                        .q = q,
                        .k = k,
                        .v = v,
                        .second_q = any_second ? second_q : Heads{},
                        .out = out,
                        .alibi_slopes = positions_ == Positions::kAlibi ? slopes_.data() : nullptr},
                       rows);
    for (size_t m = 0; m < rows.size(); ++m) {
      Stream& s = *members[m];
      const int64_t row = shape_.n_heads * shape_.head_dim;
      std::copy_n(attended.data() + rows[m].first_row * row, rows[m].n_rows() * row,
                  s.out.data() + (l * kTokens + s.cache->length()) * row);
    }
  }

  static void copy(const std::vector<float>& from, int64_t first, int64_t n, const Heads& to) {
    const int64_t dim = to.layout.dim, row = to.layout.n * dim;
    for (int64_t r = 0; r < n; ++r) {
      for (int64_t h = 0; h < to.layout.n; ++h)
        std::copy_n(from.data() + (first + r) * row + h * dim, dim, to.at(r, h));
    }
  }

  float scale() const { return 1.0F / std::sqrt(static_cast<float>(shape_.head_dim)); }

  double error(const Stream& s, int64_t l, int64_t i, int64_t h, const std::vector<Seen>& seen) const {
    const int64_t d = shape_.head_dim, g = h / shape_.group();
    const auto kv = [&](const std::vector<float>& x, int64_t j) {
      return x.data() + ((l * kTokens + j) * shape_.n_kv_heads + g) * d;
    };
    const int64_t at = ((l * kTokens + i) * shape_.n_heads + h) * d;
    std::vector<double> scores;
    for (const Seen& key : seen) {
      const std::vector<double> q = rotated(s.q.data() + at, d, inv_freq_, key.query_place);
      const std::vector<double> k = rotated(kv(s.k, key.position), d, inv_freq_, key.key_place);
      double score = 0;
      for (int64_t e = 0; e < d; ++e) score += q[e] * k[e];
      score *= scale();
      if (positions_ == Positions::kAlibi)
        score += static_cast<double>(slopes_[h]) * static_cast<double>(key.key_place - key.query_place);
      scores.push_back(score);
    }
    const double top = *std::max_element(scores.begin(), scores.end());
    double total = 0;
    for (double& score : scores) total += score = std::exp(score - top);
    double worst = 0;
    for (int64_t e = 0; e < d; ++e) {
      double sum = 0;
      for (size_t n = 0; n < seen.size(); ++n) sum += scores[n] / total * kv(s.v, seen[n].position)[e];
      worst = std::max(worst, std::abs(sum - s.out[at + e]));
    }
    return worst;
  }

  Shape shape_;
  Positions positions_;
  DType type_;
  Rng rng_;
  uint64_t draw_ = 0;
  std::vector<double> inv_freq_;
  std::vector<float> slopes_;
  std::vector<Stream> streams_;
};

// Every policy, and the variants that change which keys are kept or where they are placed.
std::vector<Policy> policies() {
  std::vector<Policy> out;
  const auto add = [&out](PolicyKind kind) -> Policy& {
    Policy& p = out.emplace_back();
    p.kind = kind;
    p.init = 3;
    p.window = 8;
    p.interval = 5;
    return p;
  };
  for (const PolicyKind kind : {PolicyKind::kFull, PolicyKind::kSep, PolicyKind::kSink, PolicyKind::kFixed}) {
    add(kind);
  }
  add(PolicyKind::kSep).layer_window = {{0, kUnlimited}};
  for (const PositionMode positions : {PositionMode::kOriginal, PositionMode::kCache}) {
    for (int variant = 0; variant < 3; ++variant) {
      Policy& p = add(PolicyKind::kSepStream);
      p.seps = 6;
      p.capacity = 31;
      p.positions = positions;
      p.sep_replace = variant == 1;
      p.seps_unbounded = variant == 2;
    }
    Policy& sink = add(PolicyKind::kSinkStream);
    sink.capacity = 20;
    sink.positions = positions;
  }
  return out;
}

void check(const Shape& shape, Positions positions, DType type, double tolerance) {
  SCOPED_TRACE(testing::Message() << shape.n_heads << "/" << shape.n_kv_heads << " heads, positions "
                                  << static_cast<int>(positions) << ", " << dtype_name(type));
  ThreadPool pool(2);
  Arena arena;
  const Context ctx{pool, arena};
  Case all(shape, positions, type, 11);
  for (const Policy& policy : policies()) all.add(policy);
  all.run(ctx);
  EXPECT_LE(all.worst(), tolerance);
}

TEST(CachedAttention, EveryPolicyAgainstThePlainReference) {
  for (const Positions positions : {Positions::kNone, Positions::kRope, Positions::kAlibi}) {
    check({4, 2, 8}, positions, DType::kF32, 5e-6);
    check({3, 3, 6}, positions, DType::kF32, 5e-6);
  }
}

// Keys are stored after rotation, and compressions rotate them again: each time they are rounded.
TEST(CachedAttention, EveryTypeOfCache) {
  for (const Positions positions : {Positions::kNone, Positions::kRope, Positions::kAlibi}) {
    check({2, 1, 8}, positions, DType::kF16, 2e-3);
    check({2, 1, 8}, positions, DType::kBF16, 2e-2);
    check({2, 1, 8}, positions, DType::kI8, 3e-2);
  }
}

TEST(CachedAttention, CachesOfAnotherShapeAreRefused) {
  ThreadPool pool(1);
  Arena arena;
  const Context ctx{pool, arena};
  KvCache cache({1, 2, 4, DType::kF32}, Policy{}, separators());
  const std::vector<int32_t> tokens(1, 1);
  const std::vector<ops::CachedRows> rows = {{&cache, tokens}};
  std::vector<float> values(8);
  const Heads heads{values.data(), 8, HeadLayout::dense(4, 2)};
  ops::begin_chunks(rows);
  EXPECT_THROW(ops::cached_attend(ctx, {.q = heads, .k = heads, .v = heads, .out = heads}, rows),
               CheckFailure);
}

// Its caches compress, and have no initial tokens: all rows lie in the band.
Policy all_in_the_band() {
  Policy policy;
  policy.kind = PolicyKind::kSepStream;
  policy.init = 0;
  return policy;
}

TEST(Moves, CopiesRowsAndRotatesKeysByTheDistance) {
  ThreadPool pool(2);
  Arena arena;
  const Context ctx{pool, arena};
  const std::vector<double> inv_freq = {1.0, 0.25};
  const ops::RopeSpec rope{inv_freq, RopePairing::kHalf};
  KvCache cache({2, 2, 4, DType::kF32}, all_in_the_band(), TokenSet(4));
  const std::vector<int32_t> tokens(4, 1);
  cache.begin_chunk(tokens);
  for (int64_t layer = 0; layer < 2; ++layer) {
    for (int64_t head = 0; head < 2; ++head) {
      for (int64_t slot = 0; slot < 4; ++slot) {
        auto* k = static_cast<float*>(cache.key_row(layer, head, {true, slot}));
        auto* v = static_cast<float*>(cache.value_row(layer, head, {true, slot}));
        for (int64_t d = 0; d < 4; ++d)
          k[d] = v[d] = static_cast<float>(1 + d + 10 * slot + 100 * head + 1000 * layer);
      }
    }
  }
  const std::vector<Move> moves = {{{true, 2}, {true, 0}, -2}, {{true, 3}, {true, 3}, 5}};
  ops::carry_out_moves(ctx, rope, moves, &cache);
  for (int64_t layer = 0; layer < 2; ++layer) {
    for (int64_t head = 0; head < 2; ++head) {
      const auto check = [&](int64_t slot, int64_t source, double by) {
        const auto* k = static_cast<const float*>(cache.key_row(layer, head, {true, slot}));
        const auto* v = static_cast<const float*>(cache.value_row(layer, head, {true, slot}));
        const double base = static_cast<double>(1 + 10 * source + 100 * head + 1000 * layer);
        EXPECT_NEAR(k[0], base * std::cos(by) - (base + 2) * std::sin(by), 2e-3);
        EXPECT_NEAR(k[3], (base + 3) * std::cos(by * 0.25) + (base + 1) * std::sin(by * 0.25), 2e-3);
        EXPECT_EQ(v[0], static_cast<float>(base));
      };
      check(0, 2, -2.0);
      check(1, 1, 0.0);
      check(3, 3, 5.0);
    }
  }
}

// int8 rows move with their scales, and a rotated key gets a new scale.
TEST(Moves, Int8RowsKeepTheirScales) {
  ThreadPool pool(2);
  Arena arena;
  const Context ctx{pool, arena};
  const std::vector<double> inv_freq = {1.0, 0.25};
  const ops::RopeSpec rope{inv_freq, RopePairing::kHalf};
  KvCache cache({2, 2, 5, DType::kI8}, all_in_the_band(), TokenSet(4));
  const std::vector<int32_t> tokens(4, 1);
  cache.begin_chunk(tokens);
  const auto stored = [](int64_t layer, int64_t head, int64_t slot, int64_t d) {
    return static_cast<int8_t>(127 - 20 * d - 9 * slot - 30 * head - 4 * layer);
  };
  const auto scale_of = [](int64_t slot) { return 0.5F + static_cast<float>(slot); };
  for (int64_t layer = 0; layer < 2; ++layer) {
    for (int64_t head = 0; head < 2; ++head) {
      for (int64_t slot = 0; slot < 4; ++slot) {
        const SlotRef at{true, slot};
        *cache.key_scale(layer, head, at) = scale_of(slot);
        *cache.value_scale(layer, head, at) = 2 * scale_of(slot);
        for (int64_t d = 0; d < 5; ++d) {
          static_cast<int8_t*>(cache.key_row(layer, head, at))[d] = stored(layer, head, slot, d);
          static_cast<int8_t*>(cache.value_row(layer, head, at))[d] = stored(layer, head, slot, d);
        }
      }
    }
  }
  const std::vector<Move> moves = {{{true, 2}, {true, 0}, -2}, {{true, 3}, {true, 1}, 0}};
  ops::carry_out_moves(ctx, rope, moves, &cache);
  for (int64_t layer = 0; layer < 2; ++layer) {
    for (int64_t head = 0; head < 2; ++head) {
      const auto key = [&](int64_t slot, int64_t d) {
        const SlotRef at{true, slot};
        return *cache.key_scale(layer, head, at) *
               static_cast<float>(static_cast<const int8_t*>(cache.key_row(layer, head, at))[d]);
      };
      const auto was = [&](int64_t slot, int64_t d) {
        return static_cast<double>(scale_of(slot)) * stored(layer, head, slot, d);
      };
      EXPECT_EQ(*cache.value_scale(layer, head, {true, 0}), 2 * scale_of(2));
      EXPECT_EQ(*cache.value_scale(layer, head, {true, 1}), 2 * scale_of(3));
      const double step = 0.51 * *cache.key_scale(layer, head, {true, 0});
      EXPECT_NEAR(key(0, 0), was(2, 0) * std::cos(-2.0) - was(2, 2) * std::sin(-2.0), step);
      EXPECT_NEAR(key(0, 3), was(2, 3) * std::cos(-0.5) + was(2, 1) * std::sin(-0.5), step);
      EXPECT_NEAR(key(0, 4), was(2, 4), step);  // not rotated
      for (int64_t d = 0; d < 5; ++d) EXPECT_EQ(key(1, d), static_cast<float>(was(3, d)));
    }
  }
}

}  // namespace
}  // namespace sepllm
