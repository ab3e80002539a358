// Computes the perplexity of contiguous text under a policy.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/json.h"
#include "engine/session.h"
#include "engine/token_stream.h"

namespace sepllm {

struct ScoreResult {
  int64_t tokens = 0;     // text tokens, not counting BOS
  int64_t predicted = 0;  // tokens that have an NLL
  double nll_sum = 0.0;   // natural logarithm
  double seconds = 0.0;
  double nll_mean() const { return predicted == 0 ? 0.0 : nll_sum / static_cast<double>(predicted); }
  double perplexity() const;  // exp(nll_mean)
  double tokens_per_second() const { return seconds > 0 ? static_cast<double>(tokens) / seconds : 0.0; }

  // Reads json() back with the same bits. Error (kBadFile) naming `file`.
  Json json() const;
  static ScoreResult from_json(const JsonObject& object);
};

// Scores a stream chunk by chunk. The chunks are those of Session::feed from the stream's start, whatever
// parts a run does, except for the last one, which the stream's end cuts: save a run that will be continued
// with the same bits before that chunk.
class Scorer {
 public:
  // `has_bos`: the stream's first id is a BOS that is not part of the text; then the NLL of every text token
  // counts, otherwise those from the second token on. References are kept.
  Scorer(Session& session, TokenStream& stream, bool has_bos);

  // Whether the next chunk has its full length and the token after it is known, so that it does not depend on
  // where the stream ends.
  bool next_is_whole();
  // Feeds the next chunk; false if the stream has ended. Error (kBadFile) for losses that are NaN or
  // infinite.
  bool step();
  // The NLLs of the last chunk, in order.
  std::span<const double> nll() const { return nll_; }
  const ScoreResult& result() const { return result_; }

  // What restore() needs in addition to the session's own state.
  Json state() const;
  // Continues from a state. The session must be the one that was saved with it, and the stream must be at its
  // start; the part that was fed before is skipped, after a check that it is the same. Error
  // (kInvalidArgument) naming `file` if it is not; (kBadFile) for an invalid state.
  void restore(const Json& state, const std::string& file);

 private:
  int64_t chunk() const { return session_.next_chunk(); }

  Session& session_;
  TokenStream& stream_;
  bool has_bos_;
  ScoreResult result_;
  int64_t fed_ = 0;
  Hash64 ids_;  // of all ids that were fed
  std::vector<double> nll_;
  std::chrono::steady_clock::time_point start_;
  double seconds_before_ = 0.0;
};

// Scores ids in memory. `on_nll` (may be empty) gets the NLLs in order, chunk by chunk, and the result so
// far; returning false ends the run early, with the figures until then.
using OnNll = std::function<bool(std::span<const double> nll, const ScoreResult& so_far)>;
ScoreResult score(Session& session, std::span<const int32_t> ids, bool has_bos, const OnNll& on_nll);

}  // namespace sepllm
