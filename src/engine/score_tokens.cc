#include "engine/score_tokens.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "base/check.h"
#include "kernels/parallel.h"
#include "kernels/rowwise/elementwise_rows.h"

namespace sepllm {
namespace {

using Likely = std::pair<int32_t, float>;

// The order of TokenScore::top.
bool more_likely(const Likely& a, const Likely& b) {
  return a.second > b.second || (a.second == b.second && a.first < b.first);
}

// The ids of the n largest of a row, with their logits. `n` is small.
void largest(std::span<const float> row, size_t n, std::vector<Likely>* out) {
  out->clear();
  if (n == 0) return;
  out->reserve(n + 1);
  for (size_t id = 0; id < row.size(); ++id) {
    const float logit = row[id];
    if (out->size() == n && !(logit > out->back().second)) continue;  // of equal ones the first stays
    const Likely next(static_cast<int32_t>(id), logit);
    out->insert(std::upper_bound(out->begin(), out->end(), next, more_likely), next);
    if (out->size() > n) out->pop_back();
  }
}

void score_row(std::span<const float> row, int32_t target, size_t n_top, TokenScore* out) {
  LogSum sum;
  add_to_log_sum(row.data(), std::ssize(row), &sum);
  const double log_sum = sum.value();
  const auto log_probability = [&](float logit) {
    return static_cast<float>(static_cast<double>(logit) - log_sum);
  };
  out->id = target;
  out->logprob = log_probability(row[static_cast<size_t>(target)]);
  largest(row, std::min(n_top, row.size()), &out->top);
  for (Likely& likely : out->top) likely.second = log_probability(likely.second);
}

}  // namespace

void score_logits(const Context& ctx, const Matrix& logits, std::span<const int32_t> targets, int64_t n_top,
                  std::vector<TokenScore>* out) {
  SEPLLM_CHECK(std::ssize(targets) == logits.n_rows && n_top >= 0);
  for (const int32_t t : targets) SEPLLM_CHECK(t >= 0 && t < logits.n_cols);
  const size_t first = out->size();
  out->resize(first + targets.size());
  constexpr int64_t kWork = 24;  // of one element, in multiply-adds
  parallel_for(ctx, logits.n_rows, logits.n_rows * logits.n_cols * kWork, [&](int64_t r, int) {
    const auto k = static_cast<size_t>(r);
    score_row({logits.row(r), static_cast<size_t>(logits.n_cols)}, targets[k], static_cast<size_t>(n_top),
              &(*out)[first + k]);
  });
}

void score_hidden(const Context& ctx, const Decoder& decoder, const Matrix& hidden,
                  std::span<const int32_t> targets, int64_t n_top, std::vector<TokenScore>* out) {
  SEPLLM_CHECK(std::ssize(targets) == hidden.n_rows);
  const int64_t vocab = decoder.config().vocab_size;
  constexpr int64_t kMostLogits = int64_t{1} << 22;
  const int64_t slice = std::clamp<int64_t>(kMostLogits / vocab, 8, 64);
  for (int64_t at = 0; at < hidden.n_rows; at += slice) {
    const Arena::Scope scope(ctx.arena);
    const int64_t n = std::min(slice, hidden.n_rows - at);
    const Matrix logits{ctx.arena.allocate<float>(n * vocab), n, vocab, vocab};
    decoder.logits(ctx, hidden.rows(at, n), logits);
    score_logits(ctx, logits, targets.subspan(static_cast<size_t>(at), static_cast<size_t>(n)), n_top, out);
  }
}

bool finite(std::span<const TokenScore> scores) {
  return std::all_of(scores.begin(), scores.end(),
                     [](const TokenScore& s) { return std::isfinite(s.logprob); });
}

}  // namespace sepllm
