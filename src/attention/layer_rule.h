// Which keys stay in one layer: the rule that follows from the policy and from a sliding window of the
// model's own.
#pragma once

#include <cstdint>
#include <vector>

#include "attention/block_rule.h"
#include "attention/pattern.h"
#include "base/token_set.h"

namespace sepllm {

struct LayerRule {
  // The tokens that stay visible for ever, in addition to initial tokens.
  enum class Keeps { kNothing, kSeparators, kInterval };

  int64_t init = 0;             // number of initial tokens that stay
  int64_t window = kUnlimited;  // the window for all other tokens; it includes the query
  Keeps keeps = Keeps::kNothing;
  int64_t interval = 0;     // only for kInterval
  int64_t max_segment = 0;  // only for kSeparators; 0: segments may have any length
  // sep-stream: no key leaves by a window; which keys stay is decided when the cache is full (then init and
  // keeps apply).
  bool streams = false;
  // The window belongs to the model, not to the policy: places are positions in the text, whatever the policy
  // says.
  bool own_window = false;
  // Where it is used, the rule keeps all tokens (the window is unlimited, and init and keeps do not apply),
  // and each query chooses among them by blocks.
  BlockRule blocks{};

  // Whether the token at this position of its document stays when it leaves the window. `last_kept`: the
  // position of the last token before it that stays (also an initial one); -1 if there is none.
  bool stays(int64_t position, int32_t token, const TokenSet& separators, int64_t last_kept) const;
  // The pattern of the rule over these tokens. Not if the layer streams (checked). With `document_starts`
  // (ascending; see Pattern) each document is a text of its own: initial tokens, the interval and the
  // segments count from where it begins.
  Pattern pattern(const int32_t* tokens, int64_t n_tokens, const TokenSet& separators,
                  std::vector<int64_t> document_starts = {}) const;

  bool operator==(const LayerRule&) const = default;
};

}  // namespace sepllm
