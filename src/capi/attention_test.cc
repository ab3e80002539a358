// The attention operator and the bounded cache over raw memory, compared with the definition in double.
#include <sepllm/sepllm.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "capi/capi_test_support.h"

namespace sepllm::test {
namespace {

Handle<sepllm_runtime> new_runtime(int n_threads) {
  sepllm_runtime* out = nullptr;
  ok(sepllm_runtime_new(n_threads, &out));
  return Handle<sepllm_runtime>(out);
}

// A tensor of its own memory, in any order of its axes, with gaps.
struct Values {
  std::vector<float> data;
  sepllm_tensor tensor{};

  Values(int64_t batch, int64_t heads, int64_t tokens, int64_t dim, bool tokens_first, uint64_t seed) {
    const int64_t row = dim + 3;
    if (tokens_first) {  // [batch][token][head]
      tensor = {nullptr, tokens * heads * row, row, heads * row};
    } else {  // [batch][head][token]
      tensor = {nullptr, heads * tokens * row, tokens * row, row};
    }
    const Rng rng(seed);
    for (int64_t e = 0; e < batch * heads * tokens * row; ++e)
      data.push_back(static_cast<float>(2 * rng.uniform(static_cast<uint64_t>(e)) - 1));
    tensor.data = data.data();
  }
  float& at(int64_t b, int64_t h, int64_t t, int64_t d) {
    return tensor.data[b * tensor.batch_stride + h * tensor.head_stride + t * tensor.token_stride + d];
  }
};

constexpr int64_t kBatch = 2, kHeads = 4, kKvHeads = 2, kTokens = 37, kDim = 8;
const std::vector<int64_t> kKept = {5, 6, 14, 21, 30}, kStarts = {0, 17};

// The definition, written out once more.
bool visible(const sepllm_pattern& p, int64_t i, int64_t j) {
  if (j > i) return false;
  const auto start_of = [&](int64_t t) {
    int64_t start = 0;
    for (size_t d = 0; d < p.n_documents; ++d)
      start = p.document_starts[d] <= t ? p.document_starts[d] : start;
    return start;
  };
  if (start_of(i) != start_of(j)) return false;
  const bool kept = std::find(p.kept, p.kept + p.n_kept, j) != p.kept + p.n_kept;
  return j - start_of(j) < p.n_initial || kept || p.window == 0 || i - j < p.window;
}

struct Operands {
  Values q{kBatch, kHeads, kTokens, kDim, true, 1}, k{kBatch, kKvHeads, kTokens, kDim, false, 2},
      v{kBatch, kKvHeads, kTokens, kDim, false, 3}, out{kBatch, kHeads, kTokens, kDim, false, 4},
      log_sum_exp{kBatch, kHeads, kTokens, 1, true, 5};
  std::vector<sepllm_pattern> patterns = {
      {kTokens, 2, 6, kKept.data(), kKept.size(), kStarts.data(), kStarts.size()},
      {kTokens - 9, 0, 4, kKept.data(), 3, nullptr, 0}};

  sepllm_attention call() {
    return {kBatch,
            kHeads,
            kKvHeads,
            kTokens,
            kDim,
            0.0F,
            q.tensor,
            k.tensor,
            v.tensor,
            out.tensor,
            log_sum_exp.tensor,
            nullptr,
            patterns.data(),
            patterns.size()};
  }
  // Row i of the output in double.
  std::vector<double> expected(int64_t b, int64_t h, int64_t i) {
    const sepllm_pattern& p = patterns[static_cast<size_t>(b)];
    std::vector<double> sum(kDim);
    if (i >= p.n_tokens) return sum;
    double total = 0;
    const int64_t g = h / (kHeads / kKvHeads);
    for (int64_t j = 0; j <= i; ++j) {
      if (!visible(p, i, j)) continue;
      double score = 0;
      for (int64_t d = 0; d < kDim; ++d) score += static_cast<double>(q.at(b, h, i, d)) * k.at(b, g, j, d);
      const double weight = std::exp(score / std::sqrt(double{kDim}));
      total += weight;
      for (int64_t d = 0; d < kDim; ++d) sum[static_cast<size_t>(d)] += weight * v.at(b, g, j, d);
    }
    for (double& x : sum) x /= total;
    return sum;
  }
};

TEST(CApiAttention, ForwardIsTheDefinition) {
  const auto runtime = new_runtime(2);
  Operands o;
  sepllm_attention call = o.call();
  ok(sepllm_attention_forward(runtime.get(), &call));
  for (int64_t b = 0; b < kBatch; ++b) {
    for (int64_t h = 0; h < kHeads; ++h) {
      for (int64_t i = 0; i < kTokens; ++i) {
        const std::vector<double> expected = o.expected(b, h, i);
        for (int64_t d = 0; d < kDim; ++d)
          ASSERT_NEAR(o.out.at(b, h, i, d), expected[static_cast<size_t>(d)], 1e-6)
              << b << " " << h << " " << i;
      }
    }
  }
}

// The sum of out * d_out, of which the backward pass gives the gradients.
double loss(Operands& o, Values& d_out) {
  double sum = 0;
  for (int64_t b = 0; b < kBatch; ++b) {
    for (int64_t h = 0; h < kHeads; ++h) {
      for (int64_t i = 0; i < kTokens; ++i) {
        const std::vector<double> out = o.expected(b, h, i);
        for (int64_t d = 0; d < kDim; ++d) sum += out[static_cast<size_t>(d)] * d_out.at(b, h, i, d);
      }
    }
  }
  return sum;
}

// Finite differences of the definition at some places of each operand.
TEST(CApiAttention, BackwardIsItsDerivative) {
  const auto runtime = new_runtime(2);
  Operands o;
  sepllm_attention call = o.call();
  Values d_out(kBatch, kHeads, kTokens, kDim, true, 6), d_q(kBatch, kHeads, kTokens, kDim, false, 7),
      d_k(kBatch, kKvHeads, kTokens, kDim, true, 8), d_v(kBatch, kKvHeads, kTokens, kDim, false, 9);
  ok(sepllm_attention_forward(runtime.get(), &call));
  ok(sepllm_attention_backward(runtime.get(), &call, d_out.tensor, d_q.tensor, d_k.tensor, d_v.tensor));
  const Rng rng(10);
  uint64_t draw = 0;
  const auto check = [&](Values& x, Values& gradient, int64_t heads, const char* name) {
    for (int trial = 0; trial < 12; ++trial) {
      const auto pick = [&](int64_t n) {
        return static_cast<int64_t>(rng.bits(draw++) % static_cast<uint64_t>(n));
      };
      const int64_t b = pick(kBatch), h = pick(heads), t = pick(kTokens), d = pick(kDim);
      float& value = x.at(b, h, t, d);
      const float old = value;
      const float up = old + 0.01F, down = old - 0.01F;
      value = up;
      const double above = loss(o, d_out);
      value = down;
      const double below = loss(o, d_out);
      value = old;
      EXPECT_NEAR(gradient.at(b, h, t, d), (above - below) / (double{up} - double{down}), 2e-4)
          << name << " " << b << " " << h << " " << t << " " << d;
    }
  };
  check(o.q, d_q, kHeads, "q");
  check(o.k, d_k, kKvHeads, "k");
  check(o.v, d_v, kKvHeads, "v");
  for (int64_t h = 0; h < kKvHeads; ++h) EXPECT_EQ(d_k.at(1, h, kTokens - 1, 0), 0.0F);  // padding
}

TEST(CApiAttention, WrongOperandsAreRefused) {
  const auto runtime = new_runtime(1);
  Operands o;
  const auto check = [&](const char* part, const auto& change) {
    sepllm_attention call = o.call();
    std::vector<sepllm_pattern> patterns = o.patterns;
    call.patterns = patterns.data();
    change(call, patterns[0]);
    refused(sepllm_attention_forward(runtime.get(), &call), SEPLLM_INVALID_ARGUMENT, part);
  };
  using A = sepllm_attention&;
  using P = sepllm_pattern&;
  check("tokens", [](A a, P) { a.tokens = 0; });
  check("head_dim", [](A a, P) { a.head_dim = 2000; });
  check("kv_heads does not divide", [](A a, P) { a.kv_heads = 3; });
  check("q has no data", [](A a, P) { a.q.data = nullptr; });
  check("k has a stride", [](A a, P) { a.k.head_stride = -1; });
  check("k has a stride", [](A a, P) { a.k.batch_stride = INT64_MAX; });
  check("out is written and overlaps", [](A a, P) { a.out.token_stride = 1; });
  check("k and v", [](A a, P) { a.v.token_stride += 1; });
  check("aligned",
        [](A a, P) { a.v.data = reinterpret_cast<float*>(reinterpret_cast<char*>(a.v.data) + 1); });
  check("scale", [](A a, P) { a.scale = NAN; });
  check("n_patterns", [](A a, P) { a.n_patterns = 3; });
  check("n_tokens", [](A, P p) { p.n_tokens = kTokens + 1; });
  check("window", [](A, P p) { p.window = -1; });
  check("n_initial", [](A, P p) { p.n_initial = -1; });
  const std::vector<int64_t> falling = {7, 5}, beyond = {kTokens};
  check("kept", [&](A, P p) { p.kept = falling.data(), p.n_kept = 2; });
  check("document_starts", [&](A, P p) { p.document_starts = beyond.data(), p.n_documents = 1; });
  sepllm_attention call = o.call();
  call.log_sum_exp.data = nullptr;
  refused(sepllm_attention_backward(runtime.get(), &call, o.q.tensor, o.q.tensor, o.k.tensor, o.v.tensor),
          SEPLLM_INVALID_ARGUMENT, "log_sum_exp");
  refused(sepllm_attention_forward(nullptr, &call), SEPLLM_INVALID_ARGUMENT, "runtime is NULL");
}

sepllm_status attend(sepllm_cache* cache, int64_t layer, const sepllm_cache_operands& operands) {
  return sepllm_cache_attend(cache, layer, &operands);
}

constexpr const char* kCacheOptions =
    R"({"layers": 2, "kv-heads": 2, "head-dim": 8, "vocab-size": 16, "policy": "sep", "init": 2, "window": 6, "separators": "ids:3,7"})";

// A static policy without positions: the cache's results are those of the operator over the whole sequence.
TEST(CApiCache, ChunksGiveWhatTheWholeSequenceGives) {
  const auto runtime = new_runtime(2);
  Operands o;
  const Rng rng(4);
  std::vector<int32_t> ids;
  std::vector<int64_t> kept;
  for (int64_t t = 0; t < kTokens; ++t) {
    ids.push_back(static_cast<int32_t>(rng.bits(static_cast<uint64_t>(t)) % 16));
    if (ids.back() == 3 || ids.back() == 7) kept.push_back(t);
  }
  o.patterns = {{kTokens, 2, 6, kept.data(), kept.size(), nullptr, 0}};
  sepllm_attention call = o.call();
  ok(sepllm_attention_forward(runtime.get(), &call));

  sepllm_cache* c = nullptr;
  ok(sepllm_cache_new(runtime.get(), kCacheOptions, &c));
  const Handle<sepllm_cache> cache(c);
  Values out(1, kHeads, kTokens, kDim, true, 11);
  const auto from = [](const Values& x, int64_t token) {
    sepllm_tensor t = x.tensor;
    t.data += token * t.token_stride;
    return t;
  };
  const sepllm_tensor none{};
  for (int64_t first = 0; first < kTokens; first += 5) {
    const auto n = std::min<int64_t>(5, kTokens - first);
    ok(sepllm_cache_begin(c, ids.data() + first, static_cast<size_t>(n)));
    const int64_t *places = nullptr, *second = nullptr;
    ok(sepllm_cache_places(c, 0, &places, &second));
    EXPECT_EQ(places[n - 1], first + n - 1);
    EXPECT_EQ(second, nullptr);
    for (int64_t layer = 0; layer < 2; ++layer) {
      ok(attend(
          c, layer,
          {kHeads, 0.0F, from(o.q, first), from(o.k, first), from(o.v, first), none, from(out, first)}));
    }
    ok(sepllm_cache_end(c, nullptr, 0, 0));
  }
  for (int64_t h = 0; h < kHeads; ++h) {
    for (int64_t t = 0; t < kTokens; ++t) {
      for (int64_t d = 0; d < kDim; ++d)
        ASSERT_NEAR(out.at(0, h, t, d), o.out.at(0, h, t, d), 1e-6) << h << " " << t;
    }
  }
  sepllm_kv_stats kv{};
  ok(sepllm_cache_kv_stats(c, &kv));
  EXPECT_LT(kv.keys, kv.full_keys);
  EXPECT_EQ(sepllm_cache_length(c), kTokens);
}

TEST(CApiCache, StepsOutOfOrderAreRefused) {
  const auto runtime = new_runtime(1);
  sepllm_cache* c = nullptr;
  refused(sepllm_cache_new(runtime.get(), R"({"layers": 2, "kv-heads": 2})", &c), SEPLLM_INVALID_ARGUMENT,
          "head-dim");
  refused(
      sepllm_cache_new(runtime.get(), R"({"layers": 2, "kv-heads": 2, "head-dim": 8, "policy": "sep"})", &c),
      SEPLLM_INVALID_ARGUMENT, "ids:1,2,3");
  ok(sepllm_cache_new(runtime.get(), kCacheOptions, &c));
  const Handle<sepllm_cache> cache(c);
  Operands o;
  const std::vector<int32_t> ids = {1, 2, 3};
  const sepllm_tensor none{};
  const auto attend = [&](int64_t layer) {
    return test::attend(c, layer, {kHeads, 0.0F, o.q.tensor, o.k.tensor, o.v.tensor, none, o.out.tensor});
  };
  refused(attend(0), SEPLLM_INVALID_STATE, "no chunk");
  refused(sepllm_cache_begin(c, nullptr, 0), SEPLLM_INVALID_ARGUMENT, "chunk");
  ok(sepllm_cache_begin(c, ids.data(), ids.size()));
  refused(sepllm_cache_begin(c, ids.data(), ids.size()), SEPLLM_INVALID_STATE, "not ended");
  ok(attend(1));
  refused(attend(1), SEPLLM_INVALID_ARGUMENT, "already");
  refused(attend(2), SEPLLM_INVALID_ARGUMENT, "no such layer");
  refused(sepllm_cache_end(c, nullptr, 0, 0), SEPLLM_INVALID_ARGUMENT, "not every layer");
  sepllm_cache* copy = nullptr;
  refused(sepllm_cache_fork(c, &copy), SEPLLM_INVALID_STATE, "not ended");
  ok(attend(0));
  ok(sepllm_cache_end(c, nullptr, 0, 0));
  ok(sepllm_cache_fork(c, &copy));
  EXPECT_EQ(sepllm_cache_length(Handle<sepllm_cache>(copy).get()), 3);
}

}  // namespace
}  // namespace sepllm::test
