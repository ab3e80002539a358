// Which separators a model looks back at: the measurement behind a learned subset of them.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "base/token_set.h"
#include "model/decoder.h"

namespace sepllm {

// A probe to pass to Decoder::forward, with a sequence under full attention. It adds up the attention that
// each separator gets from queries that are at least `distance` behind it, in multiples of what it would get
// if the query's attention were the same for all tokens.
class SeparatorAttention : public AttentionProbe {
 public:
  // References are kept. Takes every `stride`-th query.
  SeparatorAttention(const ModelConfig& config, std::span<const int32_t> tokens, const TokenSet& separators,
                     int64_t distance, int64_t stride, ThreadPool& pool);

  void layer(int64_t layer, const Matrix& q, const Matrix& k, float scale) override;

  // The ids that occur, those that get most attention first.
  struct Separator {
    int32_t id = 0;
    int64_t count = 0;     // how often it occurs
    double attention = 0;  // the mean over layers, heads, queries and occurrences; 1: as much as any token
  };
  std::vector<Separator> ranking() const;

 private:
  const ModelConfig& config_;
  std::span<const int32_t> tokens_;
  ThreadPool& pool_;
  int64_t distance_, stride_;
  std::vector<int64_t> positions_;  // of separators
  std::vector<double> sums_;        // for each of them
  std::vector<double> pairs_;       // (query, head, layer) triples in the sum
};

// The ids from the beginning of a ranking that together make up at least half of the occurrences, as a
// separator rule ("ids:..."); empty if that is all of them or none.
std::string best_half(const std::vector<SeparatorAttention::Separator>& ranking);

}  // namespace sepllm
