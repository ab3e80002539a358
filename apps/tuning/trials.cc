#include "apps/tuning/trials.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <span>

#include "base/check.h"
#include "cache/kv_cache.h"
#include "engine/scorer.h"
#include "engine/session.h"

namespace sepllm {
namespace {

// Keys that the queries of a piece see in a layer with a window (the piece's length: in full attention).
int64_t windowed_keys(int64_t n_tokens, int64_t window) {
  const int64_t full = std::min(n_tokens, window);
  return full * (full + 1) / 2 + (n_tokens - full) * window;
}

}  // namespace

double TuneBudget::used(const TuneCost& cost) const {
  double out = 0;
  if (share > 0) out = std::max(out, cost.share / share);
  if (keys > 0) out = std::max(out, cost.mean_keys / keys);
  if (bytes > 0) out = std::max(out, static_cast<double>(cost.bytes) / static_cast<double>(bytes));
  return out;
}

int64_t TunePieces::n_tokens() const {
  int64_t out = 0;
  for (const auto& piece : pieces) out += std::ssize(piece) - 1;
  return out;
}

double TuneScore::perplexity() const { return std::exp(nll); }

TuneCost Trials::cost(const PolicySettings& settings) const {
  const KvLayout layout = model_.decoder.kv_layout(settings.kv);
  const TokenSet separators = model_.separators(settings);
  int64_t keys = 0, full_keys = 0, queries = 0, bytes = 0;
  for (const std::vector<int32_t>& piece : pieces_.pieces) {
    KvCache cache(layout, settings.policy, separators, Memory::kAddresses);
    const auto n = std::ssize(piece);
    while (cache.length() < n) {
      // The last token by itself: what left the window is dropped when the next tokens come.
      const int64_t left = n - cache.length();
      const int64_t chunk =
          std::min({std::max<int64_t>(1, left - 1), settings.prefill_chunk, cache.max_chunk()});
      cache.begin_chunk(
          std::span(piece).subspan(static_cast<size_t>(cache.length()), static_cast<size_t>(chunk)));
      cache.end_chunk();
    }
    bytes += cache.held_bytes();
    keys += cache.stats().keys;
    for (int64_t l = 0; l < layout.n_layers; ++l) {
      if (layout.own_window(l) > 0) {
        keys -= windowed_keys(n, layout.own_window(l));
      } else {
        queries += n;
        full_keys += windowed_keys(n, n);
      }
    }
  }
  if (queries == 0) return {.share = 0, .bytes = bytes / std::ssize(pieces_.pieces)};
  return {.mean_keys = static_cast<double>(keys) / static_cast<double>(queries),
          .share = static_cast<double>(keys) / static_cast<double>(full_keys),
          .bytes = bytes / std::ssize(pieces_.pieces)};
}

TuneScore Trials::score(const PolicySettings& settings, const std::function<bool()>& stop) const {
  TuneScore out;
  for (const std::vector<int32_t>& piece : pieces_.pieces) {
    Session session(model_, settings_for_text(model_, settings, std::ssize(piece)), context_);
    const ScoreResult result =
        sepllm::score(session, piece, pieces_.has_bos, [&](std::span<const double> nll, const ScoreResult&) {
          out.tokens.insert(out.tokens.end(), nll.begin(), nll.end());
          out.complete = !stop();
          return out.complete;
        });
    out.nll += result.nll_sum;
    out.seconds += result.seconds;
    if (!out.complete) return out;
  }
  out.nll /= static_cast<double>(out.tokens.size());
  return out;
}

std::string PairedDifference::error_text() const {
  return std::isnan(standard_error) ? "unknown" : fmt::format("{:.4f}", standard_error);
}

PairedDifference paired_difference(const TuneScore& a, const TuneScore& b) {
  constexpr size_t kBlock = 64;
  SEPLLM_CHECK(a.tokens.size() == b.tokens.size());
  std::vector<double> means;
  for (size_t first = 0; first + kBlock <= a.tokens.size(); first += kBlock) {
    double sum = 0;
    for (size_t t = first; t < first + kBlock; ++t) sum += a.tokens[t] - b.tokens[t];
    means.push_back(sum / kBlock);
  }
  PairedDifference out{.mean = a.nll - b.nll, .standard_error = std::numeric_limits<double>::quiet_NaN()};
  if (means.size() < 2) return out;
  double mean = 0, square = 0;
  for (const double m : means) mean += m / static_cast<double>(means.size());
  for (const double m : means) square += (m - mean) * (m - mean);
  const auto n = static_cast<double>(means.size());
  out.standard_error = std::sqrt(square / (n - 1) / n);
  return out;
}

}  // namespace sepllm
