// Perplexity of contiguous text under a policy.
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
  int64_t tokens = 0;     // text tokens, BOS not counted
  int64_t predicted = 0;  // tokens with an NLL
  double nll_sum = 0.0;   // natural log
  double seconds = 0.0;
  double nll_mean() const { return predicted == 0 ? 0.0 : nll_sum / static_cast<double>(predicted); }
  double perplexity() const;  // exp(nll_mean)
  double tokens_per_second() const { return seconds > 0 ? static_cast<double>(tokens) / seconds : 0.0; }

  // The same bits back. Error (kBadFile) naming `file`.
  Json json() const;
  static ScoreResult from_json(const JsonObject& object);
};

// Scores a stream chunk by chunk. The chunks are those of Session::feed from the stream's start, whatever
// parts of it a run does, except the last one, which the stream's end cuts: a run that is to continue later
// with the same bits is saved before that.
class Scorer {
 public:
  // `has_bos`: the stream's first id is a BOS that is no text; the NLL of every text token is taken then,
  // else from the second on. References are kept.
  Scorer(Session& session, TokenStream& stream, bool has_bos);

  // Whether the next chunk has its full length and what follows it is known, so that it does not depend on
  // where the stream ends.
  bool next_is_whole();
  // Feeds the next chunk; false: the stream has ended. Error (kBadFile) for losses that are NaN or infinite.
  bool step();
  // Of the chunk last fed, in order.
  std::span<const double> nll() const { return nll_; }
  const ScoreResult& result() const { return result_; }

  // What restore() needs in addition to the session's own state.
  Json state() const;
  // Goes on from a state: the session must be the one saved with it, the stream at its start, of which as
  // much is taken as was fed, after a check that it is the same. Error (kInvalidArgument) naming `file`
  // where it is not; (kBadFile) for a state that is none.
  void restore(const Json& state, const std::string& file);

 private:
  int64_t chunk() const { return session_.next_chunk(); }

  Session& session_;
  TokenStream& stream_;
  bool has_bos_;
  ScoreResult result_;
  int64_t fed_ = 0;
  Hash64 ids_;  // of all that was fed
  std::vector<double> nll_;
  std::chrono::steady_clock::time_point start_;
  double seconds_before_ = 0.0;
};

// Scores ids in memory. `on_nll` (may be empty) gets the NLLs in order, chunk by chunk, and the result so
// far; false from it ends the run early with the figures until then.
using OnNll = std::function<bool(std::span<const double> nll, const ScoreResult& so_far)>;
ScoreResult score(Session& session, std::span<const int32_t> ids, bool has_bos, const OnNll& on_nll);

}  // namespace sepllm
