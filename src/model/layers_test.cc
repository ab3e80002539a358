// Layers that differ (tests/support/layered_model.h): the decoder against the definition in double precision,
// one token at a time, and its caches.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "base/rng.h"
#include "cache/kv_cache.h"
#include "model/decoder.h"
#include "model/shapes.h"
#include "tests/support/layered_model.h"

namespace sepllm {
namespace {

using Row = std::vector<double>;
constexpr int64_t kWindow = 5;  // of layer 0

// A key that a query sees, and how far from it the query is as positions go.
struct Key {
  int64_t position, distance;
};
using Visible = std::function<std::vector<Key>(int64_t layer)>;

class Plain {
 public:
  Plain(const ModelConfig& config, const ModelWeights& weights) : c_(config), w_(weights) {
    keys_.resize(w_.layers.size());
    values_.resize(w_.layers.size());
  }

  // The final hidden state of the next token.
  Row step(int32_t token, const Visible& visible) {
    Row x;
    for (int64_t i = 0; i < c_.hidden_size; ++i)
      x.push_back(c_.embed_scale * value(w_.token_embedding, token, i));
    for (int64_t l = 0; l < c_.n_layers; ++l) {
      const LayerWeights& w = w_.layers[static_cast<size_t>(l)];
      const bool before = c_.layer(l).norm_before, after = c_.layer(l).norm_after;
      Row out = product(w.attention_out, attention(l, w, before ? normed(w.norm1, x) : x, visible(l)));
      add(after ? normed(w.post_norm1, out) : out, &x);
      out = mlp(w, before ? normed(w.norm2, x) : x);
      add(after ? normed(w.post_norm2, out) : out, &x);
    }
    return normed(w_.final_norm, x);
  }

 private:
  static double value(const Weight& w, int64_t r, int64_t i) {
    return static_cast<const float*>(w.data)[r * w.row_stride + i];
  }
  static void add(const Row& from, Row* to) {
    for (size_t i = 0; i < from.size(); ++i) (*to)[i] += from[i];
  }
  static Row product(const Linear& linear, const Row& x) {
    Row y;
    for (int64_t r = 0; r < linear.weight.n_out; ++r) {
      double sum = linear.bias == nullptr ? 0.0 : linear.bias[r];
      for (size_t i = 0; i < x.size(); ++i) sum += value(linear.weight, r, static_cast<int64_t>(i)) * x[i];
      y.push_back(sum);
    }
    return y;
  }
  Row normed(const Norm& norm, const Row& x) const {
    double squares = 0;
    for (const double v : x) squares += v * v;
    const double inverse = 1 / std::sqrt(squares / static_cast<double>(x.size()) + c_.norm_eps);
    Row y;
    for (size_t i = 0; i < x.size(); ++i) y.push_back(x[i] * inverse * (c_.norm_offset + norm.weight[i]));
    return y;
  }
  // Of `n` heads in one row.
  Row normed_heads(QkNorm kind, const Norm& norm, const Row& row) const {
    if (kind == QkNorm::kNone) return row;
    if (kind == QkNorm::kRow) return normed(norm, row);
    Row out;
    for (size_t h = 0; h < row.size(); h += static_cast<size_t>(c_.head_dim)) {
      const auto begin = row.begin() + static_cast<std::ptrdiff_t>(h);
      const Row head = normed(norm, Row(begin, begin + c_.head_dim));
      out.insert(out.end(), head.begin(), head.end());
    }
    return out;
  }
  double score(int64_t l, const double* q, const double* k, int64_t distance) const {
    const RopeConfig* rope = c_.rope_of(l);
    double sum = 0;
    const int64_t half = rope == nullptr ? 0 : rope->dim / 2;
    for (int64_t i = 0; i < half; ++i) {
      const double angle = static_cast<double>(distance) * rope->inv_freq[static_cast<size_t>(i)];
      const double c = std::cos(angle), s = std::sin(angle);
      sum += (q[i] * c - q[i + half] * s) * k[i] + (q[i + half] * c + q[i] * s) * k[i + half];
    }
    for (int64_t i = 2 * half; i < c_.head_dim; ++i) sum += q[i] * k[i];
    return sum * c_.layer(l).attention_scale;
  }
  Row attention(int64_t l, const LayerWeights& w, const Row& x, const std::vector<Key>& seen) {
    auto& keys = keys_[static_cast<size_t>(l)];
    auto& values = values_[static_cast<size_t>(l)];
    const QkNorm kind = c_.layer(l).qk_norm;
    const Row q = normed_heads(kind, w.q_norm, product(w.qkv[0], x));
    keys.push_back(normed_heads(kind, w.k_norm, product(w.qkv[1], x)));
    values.push_back(product(w.qkv[2], x));
    Row out;
    for (int64_t h = 0; h < c_.n_heads; ++h) {
      const int64_t at = h / c_.group() * c_.head_dim;
      Row head(static_cast<size_t>(c_.head_dim));
      double total = 0;
      for (const Key& key : seen) {
        const auto j = static_cast<size_t>(key.position);
        const double weight =
            std::exp(score(l, q.data() + h * c_.head_dim, keys[j].data() + at, key.distance));
        total += weight;
        for (size_t i = 0; i < head.size(); ++i) head[i] += weight * values[j][static_cast<size_t>(at) + i];
      }
      for (const double v : head) out.push_back(v / total);
    }
    return out;
  }
  Row mlp(const LayerWeights& w, const Row& x) const {
    Row both;
    for (const Linear& part : w.mlp_in) {
      const Row rows = product(part, x);
      both.insert(both.end(), rows.begin(), rows.end());
    }
    Row out;
    const auto n = static_cast<size_t>(c_.intermediate_size);
    for (size_t i = 0; i < n; ++i) out.push_back(both[i] / (1 + std::exp(-both[i])) * both[n + i]);
    return product(w.mlp_down, out);
  }

  const ModelConfig& c_;
  const ModelWeights& w_;
  std::vector<std::vector<Row>> keys_, values_;  // of each layer, before they are rotated
};

class Layers : public testing::Test {
 protected:
  static constexpr int64_t kTokens = 60;

  Layers()
      : pool_(2),
        spec_(test::layered_spec()),
        decoder_(spec_.config, make_random_weights(spec_, DType::kF32, 3, pool_)),
        separators_(spec_.config.vocab_size) {
    const Rng rng(5);
    for (int64_t t = 0; t < kTokens; ++t) tokens_.push_back(static_cast<int32_t>(rng.bits(t) % 250));
    for (int32_t id = 0; id < 50; ++id) separators_.insert(id);
  }

  static Policy policy(PolicyKind kind, PositionMode positions = PositionMode::kOriginal) {
    Policy p;
    p.kind = kind;
    p.init = 2;
    p.window = 6;
    p.seps = 5;
    p.capacity = 20;
    p.interval = 4;
    p.positions = positions;
    return p;
  }
  // All streams: they differ in which keys stay and in places.
  static std::vector<Policy> streams() {
    std::vector<Policy> out;
    for (const PolicyKind kind : {PolicyKind::kSepStream, PolicyKind::kSinkStream}) {
      for (const PositionMode mode : {PositionMode::kOriginal, PositionMode::kCache})
        out.push_back(policy(kind, mode));
    }
    return out;
  }
  static std::vector<Policy> static_policies() {
    std::vector<Policy> out;
    for (const PolicyKind kind : {PolicyKind::kFull, PolicyKind::kSep, PolicyKind::kSink, PolicyKind::kFixed})
      out.push_back(policy(kind));
    out.push_back(policy(PolicyKind::kSep));
    out.back().layer_window = {{2, 9}, {-1, kUnlimited}};
    return out;
  }

  static std::vector<Key> own_window(int64_t i) {
    std::vector<Key> out;
    for (int64_t j = std::max<int64_t>(0, i - kWindow + 1); j <= i; ++j) out.push_back({j, i - j});
    return out;
  }

  std::vector<Row> run(std::span<const int32_t> tokens, KvCache* cache, std::span<const Pattern> patterns) {
    const Arena::Scope scope(arena_);
    const Context ctx{.pool = pool_, .arena = arena_};
    const Sequence sequence{.tokens = tokens, .cache = cache, .patterns = patterns};
    const Matrix hidden = decoder_.forward(ctx, {&sequence, 1});
    std::vector<Row> out;
    for (int64_t r = 0; r < hidden.n_rows; ++r)
      out.emplace_back(hidden.row(r), hidden.row(r) + hidden.n_cols);
    return out;
  }
  std::vector<Row> run_cached(KvCache* cache, int64_t from, int64_t to, int64_t chunk) {
    std::vector<Row> out;
    while (from < to) {
      const int64_t n = std::min({chunk, to - from, cache->max_chunk()});
      const auto part = std::span(tokens_).subspan(static_cast<size_t>(from), static_cast<size_t>(n));
      for (Row& row : run(part, cache, {})) out.push_back(std::move(row));
      from += n;
    }
    return out;
  }
  KvCache cache_of(const Policy& p, DType type = DType::kF32) {
    return {decoder_.kv_layout(type), p, separators_};
  }

  static void expect_near(const std::vector<Row>& got, const std::vector<Row>& expected) {
    ASSERT_EQ(got.size(), expected.size());
    for (size_t r = 0; r < got.size(); ++r) {
      for (size_t i = 0; i < got[r].size(); ++i) ASSERT_NEAR(got[r][i], expected[r][i], 2e-4) << r;
    }
  }

  ThreadPool pool_;
  Arena arena_;
  ModelSpec spec_;
  Decoder decoder_;
  TokenSet separators_;
  std::vector<int32_t> tokens_;
};

TEST_F(Layers, StaticPoliciesRuleTheGlobalLayersOnly) {
  for (const Policy& p : static_policies()) {
    SCOPED_TRACE(policy_name(p.kind));
    Plain plain(decoder_.config(), decoder_.weights());
    std::vector<Row> expected;
    for (int64_t i = 0; i < kTokens; ++i) {
      expected.push_back(plain.step(tokens_[static_cast<size_t>(i)], [&](int64_t l) {
        if (l == 0) return own_window(i);
        const Pattern pattern = p.pattern(tokens_.data(), kTokens, separators_, l, 4);
        std::vector<Key> seen;
        for (int64_t j = 0; j <= i; ++j) {
          if (pattern.visible(i, j)) seen.push_back({j, i - j});
        }
        return seen;
      }));
    }
    std::vector<Pattern> patterns;
    for (int64_t l = 0; l < 4; ++l) {
      patterns.push_back(
          p.rule(l, 4, spec_.config.layer(l).window).pattern(tokens_.data(), kTokens, separators_));
    }
    expect_near(run(tokens_, nullptr, patterns), expected);
    for (const int64_t chunk : {1, 7}) {
      KvCache cache = cache_of(p);
      expect_near(run_cached(&cache, 0, kTokens, chunk), expected);
      EXPECT_LE(cache.n_slots(0), kWindow - 1 + chunk);
    }
  }
}

// What the global layers see follows from their slots; the local one has its window, at its positions.
TEST_F(Layers, StreamsCompressTheGlobalLayersOnly) {
  for (const Policy& p : streams()) {
    SCOPED_TRACE(testing::Message() << policy_name(p.kind) << " " << static_cast<int>(p.positions));
    const bool slots = p.positions == PositionMode::kCache, sinks = p.kind == PolicyKind::kSinkStream;
    Plain plain(decoder_.config(), decoder_.weights());
    KvCache cache = cache_of(p);
    std::vector<Row> expected, got;
    bool compressed = false;
    for (int64_t i = 0; i < kTokens; ++i) {
      expected.push_back(plain.step(tokens_[static_cast<size_t>(i)], [&](int64_t l) {
        if (l == 0) return own_window(i);
        std::vector<int64_t> kept = cache.slot_positions(l);
        kept.push_back(i);
        std::vector<Key> seen;
        for (size_t s = 0; s < kept.size(); ++s) {
          const int64_t j = kept[s];
          if (sinks && j >= p.init && i - j >= p.capacity - p.init + 1) continue;
          const auto back = static_cast<int64_t>(kept.size() - 1 - s);  // slots between them
          const int64_t to_sink = std::min(i, p.capacity) - j;
          const bool is_sink = j < p.init && i - j >= p.capacity - p.init + 1;
          seen.push_back({j, !slots ? i - j : !sinks ? back : is_sink ? to_sink : i - j});
        }
        return seen;
      }));
      got.push_back(run_cached(&cache, i, i + 1, 1).front());
      compressed = compressed || cache.n_slots(1) < i + 1;
      EXPECT_LE(cache.n_slots(0), kWindow);
    }
    EXPECT_TRUE(compressed);
    expect_near(got, expected);
    KvCache chunked = cache_of(p);
    expect_near(run_cached(&chunked, 0, kTokens, 9), expected);
  }
}

// A model without global layers gives the same under every policy.
TEST_F(Layers, WhereAllAreLocalPoliciesChangeNothing) {
  for (LayerSpec& layer : spec_.config.layers) layer.window = kWindow;
  const Decoder local(spec_.config, make_random_weights(spec_, DType::kF32, 3, pool_));
  const auto run_local = [&](const Policy& p) {
    const Context ctx{.pool = pool_, .arena = arena_};
    KvCache cache(local.kv_layout(DType::kF32), p, separators_);
    std::vector<Row> out;
    for (const int32_t& token : tokens_) {
      const Arena::Scope scope(arena_);
      const Sequence sequence{.tokens = {&token, 1}, .cache = &cache};
      const Matrix hidden = local.forward(ctx, {&sequence, 1});
      out.emplace_back(hidden.row(0), hidden.row(0) + hidden.n_cols);
    }
    return out;
  };
  const std::vector<Row> full = run_local(policy(PolicyKind::kFull));
  for (const Policy& p : streams()) EXPECT_EQ(run_local(p), full);
  EXPECT_EQ(run_local(policy(PolicyKind::kSep)), full);
}

TEST_F(Layers, StatesMarksAndCopiesContinueWithTheSameBits) {
  for (const Policy& p : streams()) {
    for (const DType type : {DType::kF32, DType::kI8}) {
      SCOPED_TRACE(policy_name(p.kind));
      KvCache cache = cache_of(p, type);
      run_cached(&cache, 0, 40, 6);
      std::string state, mark;
      StringWriter to_state(&state), to_mark(&mark);
      cache.save(to_state);
      cache.save_mark(to_mark);
      KvCache copy = cache.copy();
      const std::vector<Row> expected = run_cached(&cache, 40, kTokens, 1);
      EXPECT_EQ(run_cached(&copy, 40, kTokens, 1), expected);
      KvCache restored = cache_of(p, type);
      ByteReader in(state, "a state", "");
      restored.restore(in, 6);
      EXPECT_EQ(run_cached(&restored, 40, kTokens, 1), expected);
      ByteReader back(mark, "a mark", "");
      cache.rewind(back);
      EXPECT_EQ(run_cached(&cache, 40, kTokens, 1), expected);
    }
  }
}

}  // namespace
}  // namespace sepllm
