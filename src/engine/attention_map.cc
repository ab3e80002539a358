#include "engine/attention_map.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/check.h"
#include "base/error.h"

namespace sepllm {
namespace {

void check_indices(const std::vector<int64_t>& indices, int64_t count, const char* what) {
  for (const int64_t i : indices) {
    if (i >= 0 && i < count) continue;
    throw Error(ErrorCode::kOutOfRange, fmt::format("the model has no {} {}", what, i),
                {.expected = fmt::format("from 0 to {}", count - 1)});
  }
}

double dot(const float* a, const float* b, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  return sum;
}

}  // namespace

const char* token_class_name(TokenClass c) {
  constexpr const char* kNames[] = {"initial", "separator", "neighbouring", "other"};
  return kNames[static_cast<size_t>(c)];
}

TokenClass ClassRule::classify(int64_t query, int64_t key, int32_t key_token) const {
  if (key < init) return TokenClass::kInitial;
  if (separators.contains(key_token)) return TokenClass::kSeparator;
  return query - key < window ? TokenClass::kNeighbour : TokenClass::kOther;
}

void attention_row(const float* query, const Matrix& keys, int64_t head_column, int64_t head_dim, int64_t i,
                   float scale, double slope, std::vector<double>* weights) {
  weights->resize(static_cast<size_t>(i + 1));
  double highest = -INFINITY;
  for (int64_t j = 0; j <= i; ++j) {
    const double score = dot(query, keys.row(j) + head_column, head_dim) * static_cast<double>(scale) +
                         slope * static_cast<double>(j - i);
    (*weights)[static_cast<size_t>(j)] = score;
    highest = std::max(highest, score);
  }
  double sum = 0;
  for (double& w : *weights) sum += w = std::exp(w - highest);
  for (double& w : *weights) w /= sum;
}

AttentionMap::AttentionMap(const ModelConfig& config, std::span<const int32_t> tokens, const ClassRule& rule,
                           const std::vector<int64_t>& layers, const std::vector<int64_t>& heads,
                           int64_t n_rows, ThreadPool& pool)
    : config_(config),
      tokens_(tokens.begin(), tokens.end()),
      rule_(rule),
      pool_(pool),
      shares_(static_cast<size_t>(config.n_layers)) {
  check_indices(layers, config.n_layers, "layer");
  check_indices(heads, config.n_heads, "head");
  const int64_t rows = std::min(n_rows, static_cast<int64_t>(tokens.size()));
  for (const int64_t layer : layers) {
    for (const int64_t head : heads)
      maps_.push_back({.layer = layer, .head = head, .n_rows = rows, .weights = {}});
  }
}

HeadMap* AttentionMap::map_of(int64_t layer, int64_t head) {
  for (HeadMap& m : maps_) {
    if (m.layer == layer && m.head == head) return &m;
  }
  return nullptr;
}

void AttentionMap::layer(int64_t layer, const Matrix& q, const Matrix& k, float scale) {
  const auto n = static_cast<int64_t>(tokens_.size());
  SEPLLM_CHECK(q.n_rows == n && k.n_rows == n);
  std::vector<ClassShares> of_head(static_cast<size_t>(config_.n_heads));
  pool_.parallel_for(config_.n_heads, [&](int64_t head, int) {
    ClassShares& shares = of_head[static_cast<size_t>(head)];
    HeadMap* map = map_of(layer, head);
    const double slope = config_.alibi_slopes.empty() ? 0.0 : config_.alibi_slopes[static_cast<size_t>(head)];
    const int64_t key_column = head / config_.group() * config_.head_dim;
    std::vector<double> weights;
    const int64_t window = config_.layer(layer).window;
    for (int64_t i = 0; i < n; ++i) {
      const int64_t first = window > 0 ? std::max<int64_t>(0, i - window + 1) : 0;
      attention_row(q.row(i) + head * config_.head_dim, k.rows(first, n - first), key_column,
                    config_.head_dim, i - first, scale, slope, &weights);
      weights.insert(weights.begin(), static_cast<size_t>(first), 0.0);
      for (int64_t j = 0; j <= i; ++j) {
        const auto c = static_cast<size_t>(rule_.classify(i, j, tokens_[static_cast<size_t>(j)]));
        shares.attention[c] += weights[static_cast<size_t>(j)];
        shares.tokens[c] += 1.0 / static_cast<double>(i + 1);
      }
      if (map != nullptr && i < map->n_rows) {
        map->weights.insert(map->weights.end(), weights.begin(), weights.end());
      }
    }
  });
  ClassShares& total = shares_[static_cast<size_t>(layer)];
  const double rows = static_cast<double>(n * config_.n_heads);
  for (const ClassShares& s : of_head) {
    for (size_t c = 0; c < kTokenClasses; ++c) {
      total.attention[c] += s.attention[c] / rows;
      total.tokens[c] += s.tokens[c] / rows;
    }
  }
}

}  // namespace sepllm
