// A case that `sepllm bench decode` and `bench prefill` measure repeatedly: a stream at some depth, and the
// tokens that follow.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "apps/shell/common.h"
#include "base/rng.h"
#include "base/token_set.h"
#include "engine/sampler.h"
#include "engine/session.h"

namespace sepllm {

// A shape has no tokenizer that could tell separators: unless they were chosen, one id serves as a separator.
void choose_separators(const Model& model, PolicyOptions* policy);

// A made-up stream in which a given share of the tokens are separators.
class MadeUpTokens {
 public:
  // Ids of [0, vocab_size), of `separators` with probability `share`. If all ids or none are separators, the
  // share is 1 or 0.
  MadeUpTokens(const TokenSet& separators, int64_t vocab_size, double share);
  int32_t at(int64_t position) const;

 private:
  Rng rng_{1};
  double share_;
  std::vector<int32_t> separators_, others_;
};

class SpeedCase {
 public:
  // n_tokens: the tokens that follow the depth, known at once (prefill) or one by one (decode: with the
  // logits of each, and choosing the most likely one). Fills the cache. Error as for KvCache::fill and
  // Session.
  SpeedCase(const Model& model, const PolicySettings& settings, const MadeUpTokens& tokens, int64_t depth,
            int64_t n_tokens, bool decode, const Context& ctx);

  // Goes back to the depth, takes the first `n` tokens from there, and returns the seconds that this took. 1
  // <= n <= n_tokens. Error as for Session::advance.
  double seconds(int64_t n);

  int64_t depth() const { return depth_; }
  int64_t n_tokens() const { return static_cast<int64_t>(ids_.size()); }
  // Of the last run: the mean number of keys that a query saw, and the bytes of keys and values held at its
  // end.
  double mean_keys() const { return session_.cache().stats().mean_keys(); }
  int64_t kv_bytes() const;
  // Bytes of keys and values that a token reads, over all layers, including its own.
  double kv_bytes_read() const;

 private:
  Session session_;
  Sampler sampler_;
  int64_t depth_;
  bool decode_;
  std::vector<int32_t> ids_;
  std::string mark_;
};

}  // namespace sepllm
