// What a policy costs and how well a model predicts a text under it: the two numbers between which `sepllm
// tune` chooses.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "attention/policy.h"
#include "engine/model.h"
#include "tensor/context.h"

namespace sepllm {

// The cost of a policy on some pieces of text, planned from their tokens without running the model. It is
// exact for tokens that are decoded one by one.
struct TuneCost {
  double mean_keys = 0;  // of a query, over the layers that the policy rules
  double share = 1;      // of the keys that full attention has in these layers
  int64_t bytes = 0;     // of keys and values in all layers at the end of a piece, the mean of all pieces
};

// Limits for the cost; 0: no limit.
struct TuneBudget {
  double share = 0;
  double keys = 0;
  int64_t bytes = 0;
  // The part of the budget that a cost takes, by the limit that is nearest: at most 1 if it fits.
  double used(const TuneCost& cost) const;
};

// Pieces of a text, each read from its beginning; a piece may begin with a BOS.
struct TunePieces {
  std::vector<std::vector<int32_t>> pieces{};
  bool has_bos = false;
  int64_t n_tokens() const;  // predicted tokens
};

// A policy with a name for people.
struct TunePolicy {
  std::string name;
  PolicySettings settings;
};

// How well the model predicts the pieces.
struct TuneScore {
  double nll = 0;                // mean, natural logarithm
  std::vector<double> tokens{};  // of each predicted token, in order
  double seconds = 0;
  bool complete = true;  // false: it was interrupted, and the other members say nothing
  double perplexity() const;
};

class Trials {
 public:
  // References are kept.
  Trials(const Model& model, const Context& context, const TunePieces& pieces)
      : model_(model), context_(context), pieces_(pieces) {}

  TuneCost cost(const PolicySettings& settings) const;
  // Runs the model. `stop` is asked after each chunk.
  TuneScore score(const PolicySettings& settings, const std::function<bool()>& stop) const;

  const TunePieces& pieces() const { return pieces_; }

 private:
  const Model& model_;
  Context context_;
  const TunePieces& pieces_;
};

// The mean of a - b over tokens, and its standard error from means over blocks of 64 neighbouring tokens
// (which are not independent of each other one by one). With fewer than two blocks the error is not known,
// and NaN. Both scores are of the same pieces.
struct PairedDifference {
  double mean = 0, standard_error = 0;
  std::string error_text() const;  // "0.0123", or "unknown"
};
PairedDifference paired_difference(const TuneScore& a, const TuneScore& b);

}  // namespace sepllm
