// Shows where attention goes: the weights of chosen heads, and the share of attention that initial tokens,
// separators, neighbours and other tokens receive in each layer (docs/METHOD.md#why-it-works: the observation
// on which the method rests).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/thread_pool.h"
#include "base/token_set.h"
#include "model/decoder.h"

namespace sepllm {

// Each key is in exactly one class: the first that applies, in this order.
enum class TokenClass { kInitial, kSeparator, kNeighbour, kOther };
inline constexpr size_t kTokenClasses = 4;
const char* token_class_name(TokenClass c);  // "initial", "separator", "neighbouring", "other"

struct ClassRule {
  int64_t init = 4;     // initial: position < init
  TokenSet separators;  // separator: the token is in the set
  int64_t window = 16;  // neighbouring: query - key < window, the query itself included
  TokenClass classify(int64_t query, int64_t key, int32_t key_token) const;
};

// Means over the queries (and heads) of one layer; each array sums to 1.
struct ClassShares {
  std::array<double, kTokenClasses> attention{};  // share of the attention weights
  std::array<double, kTokenClasses> tokens{};     // share of the visible tokens
};

// The weights of one head, row after row: row i has i + 1 of them and sums to 1.
struct HeadMap {
  int64_t layer = 0;
  int64_t head = 0;
  int64_t n_rows = 0;
  std::vector<float> weights;
  float at(int64_t query, int64_t key) const {
    return weights[static_cast<size_t>(query * (query + 1) / 2 + key)];
  }
};

// Softmax of one head's causal scores, for one row of a probe: q(i) . k(j) * scale + slope * (j - i) for j <=
// i. `weights` gets i + 1 values.
void attention_row(const float* query, const Matrix& keys, int64_t head_column, int64_t head_dim, int64_t i,
                   float scale, double slope, std::vector<double>* weights);

// A probe to pass to Decoder::forward, with a sequence under full attention.
class AttentionMap : public AttentionProbe {
 public:
  // Keeps the weights of `layers` x `heads` for the first `n_rows` queries; shares are over all queries of
  // all heads. Error (kOutOfRange) for a layer or head that the model does not have.
  AttentionMap(const ModelConfig& config, std::span<const int32_t> tokens, const ClassRule& rule,
               const std::vector<int64_t>& layers, const std::vector<int64_t>& heads, int64_t n_rows,
               ThreadPool& pool);

  void layer(int64_t layer, const Matrix& q, const Matrix& k, float scale) override;

  const std::vector<HeadMap>& maps() const { return maps_; }          // ordered by layer, then by head
  const std::vector<ClassShares>& shares() const { return shares_; }  // one entry per layer

 private:
  HeadMap* map_of(int64_t layer, int64_t head);

  const ModelConfig& config_;
  std::vector<int32_t> tokens_;
  ClassRule rule_;
  ThreadPool& pool_;
  std::vector<HeadMap> maps_;
  std::vector<ClassShares> shares_;
};

}  // namespace sepllm
