// Perplexity of contiguous text under a policy.
#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "engine/session.h"

namespace sepllm {

struct ScoreResult {
  int64_t tokens = 0;     // text tokens, BOS not counted
  int64_t predicted = 0;  // tokens with an NLL
  double nll_sum = 0.0;   // natural log
  double seconds = 0.0;
  double nll_mean() const { return predicted == 0 ? 0.0 : nll_sum / static_cast<double>(predicted); }
  double perplexity() const;  // exp(nll_mean)
  double tokens_per_second() const { return seconds > 0 ? static_cast<double>(tokens) / seconds : 0.0; }
};

// Feeds `ids` to the session. `has_bos`: ids[0] is a BOS that is no text; the NLL of every text token is
// taken then, else from the second on. `on_nll` (may be empty) gets the NLLs in order, chunk by chunk, and
// the result so far; false from it ends the run early with the figures until then.
using OnNll = std::function<bool(std::span<const double> nll, const ScoreResult& so_far)>;
ScoreResult score(Session& session, std::span<const int32_t> ids, bool has_bos, const OnNll& on_nll);

}  // namespace sepllm
