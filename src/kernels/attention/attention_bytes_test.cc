#include "kernels/attention/attention_bytes.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numbers>
#include <vector>

#include "kernels/attention/attention.h"
#include "kernels/kernel_test_support.h"

namespace sepllm {
namespace {

using test::Rows;

// One sequence of int8 keys and values, and one row of queries that sees all of them.
struct Decoding {
  Decoding(int64_t heads, int64_t kv_heads, int64_t dim, int64_t keys)
      : n_heads(heads), n_kv_heads(kv_heads), head_dim(dim), n_keys(keys), q(1, heads * dim) {
    k = test::random_stored(DType::kI8, kv_heads * keys * dim, 1);
    v = test::random_stored(DType::kI8, kv_heads * keys * dim, 2);
    Rows scales(2, kv_heads * keys);
    scales.fill(3, 0.001F, 0.02F);
    for (int64_t i = 0; i < kv_heads * keys; ++i) {
      k_scales.push_back(scales.at(0, i));
      v_scales.push_back(scales.at(1, i));
    }
    q.fill(4, -3, 3);
    span.k = k.data();
    span.v = v.data();
    span.k_scales = k_scales.data();
    span.v_scales = v_scales.data();
    span.slot_stride = dim;
    span.head_stride = keys * dim;
    span.scale_head_stride = span.n_keys = keys;
  }
  Rows run(BlockProducts products, int threads = 1) {
    Rows out(1, n_heads * head_dim);
    const AttentionSequence sequence{
        .n_rows = 1, .first_position = n_keys - 1, .kv_type = DType::kI8, .spans = {&span, 1}};
    const auto heads = [&](Rows& rows) {
      return Heads{rows.matrix().data, rows.matrix().stride, HeadLayout::dense(n_heads, head_dim)};
    };
    const AttentionArgs args{.n_kv_heads = n_kv_heads,
                             .scale = 1.0F / std::sqrt(static_cast<float>(head_dim)),
                             .q = heads(q),
                             .out = heads(out),
                             .sequences = {&sequence, 1}};
    test::Threads t(threads);
    t.context.block_products = products;
    attention(t.context, args);
    return out;
  }

  int64_t n_heads, n_kv_heads, head_dim, n_keys;
  std::vector<char> k, v;
  std::vector<float> k_scales, v_scales;
  Rows q;
  KeySpan span;
};

// How far the result may be from attention in f32 (attention_bytes.h): a change of all scores by at most e
// changes weights by a factor of at most exp(2 e).
double bound(Decoding& s) {
  double most_q = 0, most_sum = 0, most_v = 0;
  for (int64_t i = 0; i < s.n_heads * s.head_dim; ++i)
    most_q = std::max(most_q, std::abs(static_cast<double>(s.q.at(0, i))));
  for (int64_t j = 0; j < s.n_kv_heads * s.n_keys; ++j) {
    double sum = 0;
    for (int64_t d = 0; d < s.head_dim; ++d)
      sum += std::abs(static_cast<int8_t>(s.k[static_cast<size_t>(j * s.head_dim + d)]));
    most_sum = std::max(most_sum, sum * static_cast<double>(s.k_scales[j]));
    most_v = std::max(most_v, 127.0 * static_cast<double>(s.v_scales[j]));
  }
  const double score = most_q * most_sum / (2 * kByteQueryMost) / std::sqrt(static_cast<double>(s.head_dim));
  return most_v * (2 * score + static_cast<double>(kByteBlock) / (2 * kByteWeightMost));
}

// The definition of attention_bytes.h, for keys that are not split.
std::vector<double> by_definition(Decoding& s, int64_t head) {
  const int64_t kv_head = head / (s.n_heads / s.n_kv_heads), first = kv_head * s.n_keys;
  const float* query = &s.q.at(0, head * s.head_dim);
  // The rounding to Q in f32, as the kernel does it; everything else in double precision.
  const auto scale =
      static_cast<float>(1.0F / std::sqrt(static_cast<float>(s.head_dim)) * std::numbers::log2e);
  float most = 0;
  for (int64_t d = 0; d < s.head_dim; ++d) most = std::max(most, std::abs(query[d] * scale));
  const float step_q = most / kByteQueryMost, factor = kByteQueryMost / most;
  const auto byte = [&](const std::vector<char>& rows, int64_t j, int64_t d) {
    return static_cast<double>(static_cast<int8_t>(rows[static_cast<size_t>((first + j) * s.head_dim + d)]));
  };
  std::vector<double> scores(static_cast<size_t>(s.n_keys)), out(static_cast<size_t>(s.head_dim));
  for (int64_t j = 0; j < s.n_keys; ++j) {
    double dot = 0;
    for (int64_t d = 0; d < s.head_dim; ++d)
      dot += static_cast<double>(std::nearbyint(query[d] * scale * factor)) * byte(s.k, j, d);
    scores[j] = dot * static_cast<double>(step_q) * static_cast<double>(s.k_scales[first + j]);
  }
  const double top = *std::max_element(scores.begin(), scores.end());
  double total = 0;
  for (int64_t begin = 0; begin < s.n_keys; begin += kByteBlock) {
    const int64_t end = std::min(begin + kByteBlock, s.n_keys);
    std::vector<double> weights;
    for (int64_t j = begin; j < end; ++j) {
      total += std::exp2(scores[j] - top);
      weights.push_back(std::exp2(scores[j] - top) * static_cast<double>(s.v_scales[first + j]));
    }
    const double step = *std::max_element(weights.begin(), weights.end()) / kByteWeightMost;
    for (int64_t j = begin; j < end; ++j) {
      const double whole = std::round(weights[j - begin] / step);
      for (int64_t d = 0; d < s.head_dim; ++d) out[d] += whole * byte(s.v, j, d) * step;
    }
  }
  for (double& x : out) x /= total;
  return out;
}

TEST(AttentionBytes, FollowItsDefinition) {
  if (!has_attention_bytes()) GTEST_SKIP() << "this processor has no dot products of bytes (AVX-512 VNNI)";
  for (const auto& [heads, kv_heads] : {std::pair{8, 2}, {32, 1}, {3, 1}, {4, 2}, {5, 1}, {71, 1}}) {
    for (const int64_t dim : {64, 128, 4, 20, 67, 192, 256}) {
      for (const int64_t n_keys : {1, 15, 33, 64, 257, 500}) {
        Decoding s(heads, kv_heads, dim, n_keys);
        Rows got = s.run(BlockProducts::kInteger);
        for (const int64_t head : {int64_t{0}, int64_t{heads} - 1}) {
          const std::vector<double> expected = by_definition(s, head);
          double worst = 0;
          for (int64_t d = 0; d < dim; ++d)
            worst = std::max(worst, std::abs(static_cast<double>(got.at(0, head * dim + d)) - expected[d]));
          // In f32, a weight or two is rounded the other way: by one unit, at most of the largest weight.
          EXPECT_LE(worst, 2.0 * 127 * 0.02 / kByteWeightMost)
              << heads << "/" << kv_heads << " x " << dim << ", " << n_keys << " keys";
        }
      }
    }
  }
}

// The bound that attention_bytes.h derives, for one weight that dwarfs the others.
TEST(AttentionBytes, SmallWeightsNextToALargeOneAreKept) {
  if (!has_attention_bytes()) GTEST_SKIP() << "this processor has no dot products of bytes (AVX-512 VNNI)";
  Decoding s(4, 1, 64, 512);
  std::fill(s.k.begin(), s.k.end(), char{0});
  for (int64_t h = 0; h < 4; ++h) s.q.at(0, h * 64) = 8.0F;  // scale 1/8: a score of k_0 * scale of the key
  std::fill(s.k_scales.begin(), s.k_scales.end(), 1.0F);
  std::fill(s.v_scales.begin(), s.v_scales.end(), 0.01F);
  s.k[0] = 8;  // e^8 times the weight of each other key: .85 of all
  Rows got = s.run(BlockProducts::kInteger), exact = s.run(BlockProducts::kExact);
  EXPECT_LE(test::max_difference(got.matrix(), exact.matrix()), 64.0 * 1.27 / (2 * kByteWeightMost));
}

TEST(AttentionBytes, ExactProductsAreThoseOfF32) {
  for (const int64_t kv_heads : {8, 1}) {
    Decoding s(32, kv_heads, 64, 3000);
    const Rows exact = s.run(BlockProducts::kExact), fast = s.run(BlockProducts::kInteger);
    allow_cpu_features(0);
    EXPECT_TRUE(exact.same_bits(s.run(BlockProducts::kInteger)));
    allow_cpu_features(kAllCpuFeatures);
    EXPECT_EQ(fast.same_bits(exact), !has_attention_bytes());
    EXPECT_LE(test::max_difference(fast.matrix(), exact.matrix()), bound(s));
    EXPECT_TRUE(fast.same_bits(s.run(BlockProducts::kInteger, 3)));
  }
}

TEST(AttentionBytes, QueriesThatAreNotFiniteAreSeen) {
  for (const float bad : {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    Decoding s(8, 2, 64, 100);
    s.q.at(0, 3 * 64 + 5) = bad;
    Rows got = s.run(BlockProducts::kInteger);
    for (int64_t h = 0; h < 8; ++h) {
      for (int64_t d = 0; d < 64; ++d) EXPECT_EQ(std::isfinite(got.at(0, h * 64 + d)), h != 3) << h;
    }
  }
}

// Blocks whose weights are all zero, and queries of zeros.
TEST(AttentionBytes, ZerosStayZeros) {
  Decoding s(4, 1, 64, 300);
  std::fill(s.v_scales.begin(), s.v_scales.begin() + 128, 0.0F);
  std::fill_n(&s.q.at(0, 0), 64, 0.0F);
  const Rows exact = s.run(BlockProducts::kExact), fast = s.run(BlockProducts::kInteger);
  EXPECT_LE(test::max_difference(fast.matrix(), exact.matrix()), bound(s));
}

}  // namespace
}  // namespace sepllm
