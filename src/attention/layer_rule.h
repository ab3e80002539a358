// Which keys stay in one layer: what a policy, and a sliding window of the model's own, come to there.
#pragma once

#include <cstdint>
#include <vector>

#include "attention/pattern.h"
#include "base/token_set.h"

namespace sepllm {

struct LayerRule {
  // What stays visible for ever apart from initial tokens.
  enum class Keeps { kNothing, kSeparators, kInterval };

  int64_t init = 0;             // initial tokens that stay
  int64_t window = kUnlimited;  // what the others see, the query included
  Keeps keeps = Keeps::kNothing;
  int64_t interval = 0;  // of kInterval
  // sep-stream: nothing leaves by a window; what stays is decided when the cache is full (init and keeps are
  // then about that).
  bool streams = false;
  // The window is the model's, not the policy's: places are positions in the text, whatever the policy says.
  bool own_window = false;

  // Whether the token at this position of its document stays when it leaves the window.
  bool stays(int64_t position, int32_t token, const TokenSet& separators) const;
  // The rule over these tokens. Not where the layer streams (a check). With `document_starts` (ascending; of
  // Pattern) each document is a text of its own: initial tokens and the interval count from where it begins.
  Pattern pattern(const int32_t* tokens, int64_t n_tokens, const TokenSet& separators,
                  std::vector<int64_t> document_starts = {}) const;

  bool operator==(const LayerRule&) const = default;
};

}  // namespace sepllm
