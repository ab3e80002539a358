#include "apps/tuning/separator_attention.h"

#include <algorithm>
#include <cstddef>
#include <map>

#include "base/check.h"
#include "engine/attention_map.h"

namespace sepllm {

SeparatorAttention::SeparatorAttention(const ModelConfig& config, std::span<const int32_t> tokens,
                                       const TokenSet& separators, int64_t distance, int64_t stride,
                                       ThreadPool& pool)
    : config_(config), tokens_(tokens), pool_(pool), distance_(distance), stride_(stride) {
  for (int64_t j = 0; j < std::ssize(tokens); ++j) {
    if (separators.contains(tokens[static_cast<size_t>(j)])) positions_.push_back(j);
  }
  sums_.resize(positions_.size());
  pairs_.resize(positions_.size());
}

void SeparatorAttention::layer(int64_t layer, const Matrix& q, const Matrix& k, float scale) {
  const int64_t n = std::ssize(tokens_);
  SEPLLM_CHECK(q.n_rows == n && k.n_rows == n);
  if (config_.layer(layer).window > 0) return;  // no policy rules it
  std::vector<std::vector<double>> of_head(static_cast<size_t>(config_.n_heads));
  pool_.parallel_for(config_.n_heads, [&](int64_t head, int) {
    std::vector<double>& sums = of_head[static_cast<size_t>(head)];
    sums.resize(positions_.size());
    const double slope = config_.alibi_slopes.empty() ? 0.0 : config_.alibi_slopes[static_cast<size_t>(head)];
    std::vector<double> weights;
    for (int64_t i = distance_; i < n; i += stride_) {
      attention_row(q.row(i) + head * config_.head_dim, k, head / config_.group() * config_.head_dim,
                    config_.head_dim, i, scale, slope, &weights);
      for (size_t s = 0; s < positions_.size() && positions_[s] + distance_ <= i; ++s)
        sums[s] += weights[static_cast<size_t>(positions_[s])] * static_cast<double>(i + 1);
    }
  });
  for (size_t s = 0; s < positions_.size(); ++s) {
    for (const std::vector<double>& sums : of_head) sums_[s] += sums[s];
    for (int64_t i = distance_; i < n; i += stride_) {
      if (positions_[s] + distance_ <= i) pairs_[s] += static_cast<double>(config_.n_heads);
    }
  }
}

std::vector<SeparatorAttention::Separator> SeparatorAttention::ranking() const {
  struct Total {
    int64_t count = 0;
    double sum = 0, pairs = 0;
  };
  std::map<int32_t, Total> totals;
  for (size_t s = 0; s < positions_.size(); ++s) {
    Total& total = totals[tokens_[static_cast<size_t>(positions_[s])]];
    ++total.count;
    total.sum += sums_[s];
    total.pairs += pairs_[s];
  }
  std::vector<Separator> out;
  for (const auto& [id, total] : totals)
    out.push_back({id, total.count, total.pairs > 0 ? total.sum / total.pairs : 0});
  std::stable_sort(out.begin(), out.end(),
                   [](const Separator& a, const Separator& b) { return a.attention > b.attention; });
  return out;
}

std::string best_half(const std::vector<SeparatorAttention::Separator>& ranking) {
  int64_t all = 0, taken = 0;
  for (const auto& s : ranking) all += s.count;
  std::string out;
  size_t n = 0;
  for (; n < ranking.size() && 2 * taken < all; ++n) {
    out += (out.empty() ? "ids:" : ",") + std::to_string(ranking[n].id);
    taken += ranking[n].count;
  }
  return n < ranking.size() ? out : "";
}

}  // namespace sepllm
