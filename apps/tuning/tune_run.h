// The whole work of `sepllm tune`, without reading options and writing results.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "apps/tuning/candidates.h"
#include "apps/tuning/layer_search.h"
#include "apps/tuning/tune_text.h"

namespace sepllm {

// What the search found out about one separator (SeparatorAttention).
struct SeparatorFact {
  std::string piece;
  int64_t count = 0;
  double attention = 0;
};

// A policy on the text of the report.
struct TuneRow {
  enum class Role { kFull, kFixed, kFound, kOtherBudget };
  Role role = Role::kFixed;
  std::string family;  // "sink", "sep", "tuned": which curve of the frontier it belongs to; empty: none
  TunePolicy policy{};
  TuneCost cost{};
  double nll = 0, seconds = 0;
  PairedDifference to_best_fixed{};  // of the NLL; below 0 if it predicts better
  double perplexity() const;
};

struct TuneReport {
  std::vector<SeparatorFact> separators{};  // those that get most attention, at most 12
  std::vector<LayerEffect> effects{};
  std::vector<TuneTrial> search{};  // all that was measured on the search's text and fits the budget
  TuneTrial full{}, found{};        // on the search's text
  std::vector<TuneRow> rows{};      // on the report's text; found is one of them
  bool interrupted = false;

  const TuneRow* row(TuneRow::Role role) const;  // the first with this role; null: none
  const TuneRow* best_fixed() const;
  // Of policies on the search's text: those of `search`, and those behind `effects`.
  int64_t n_measured() const;
};

struct TuneEvents {
  SearchEvents search{};
  // Called once, after the first measurement: how long the rest will take at most.
  std::function<void(double seconds, int64_t n_measurements)> estimated{};
  std::function<void(const std::string& what)> phase{};
  // Called once with the result of the search, before the report is measured.
  std::function<void(const PolicySettings& settings, bool interrupted)> found{};
};

// `base`: initial tokens, separators and the type of the cache. After `stop` the best policy so far is taken,
// and still measured for the report. Error (kInvalidArgument) if nothing fits the budget, if no layer is
// ruled by policies, or if it was stopped before any policy was measured.
TuneReport tune(const Model& model, const Context& context, const TuneTexts& texts,
                const PolicySettings& base, const TuneBudget& budget, const TuneEvents& events);

}  // namespace sepllm
