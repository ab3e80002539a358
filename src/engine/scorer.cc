#include "engine/scorer.h"

#include <chrono>
#include <cmath>
#include <vector>

#include "base/check.h"

namespace sepllm {

double ScoreResult::perplexity() const { return std::exp(nll_mean()); }

ScoreResult score(Session& session, std::span<const int32_t> ids, bool has_bos, const OnNll& on_nll) {
  SEPLLM_CHECK(ids.size() >= 2);
  const auto start = std::chrono::steady_clock::now();
  ScoreResult result;
  std::vector<double> nll;
  const auto total = static_cast<int64_t>(ids.size());
  const auto on_hidden = [&](int64_t first, const Matrix& hidden) {
    // Row r predicts token first + r + 1; the last token predicts nothing that is known.
    const int64_t n = std::min(hidden.n_rows, total - 1 - first);
    nll.resize(static_cast<size_t>(n));
    const auto targets = ids.subspan(static_cast<size_t>(first + 1), static_cast<size_t>(n));
    if (n > 0) session.model().decoder.nll(session.context(), hidden.rows(0, n), targets, nll.data());
    for (const double x : nll) {
      if (!std::isfinite(x)) refuse_output(session.model());
      result.nll_sum += x;
    }
    result.predicted += n;
    result.tokens = first + hidden.n_rows - (has_bos ? 1 : 0);
    result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return !on_nll || on_nll(nll, result);
  };
  session.feed(ids, on_hidden);
  return result;
}

}  // namespace sepllm
