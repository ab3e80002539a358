// Which keys a model keeps: every policy of the paper is a value of one type (docs/METHOD.md#policies).
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "attention/layer_rule.h"
#include "attention/pattern.h"
#include "base/dtype.h"
#include "base/json.h"
#include "base/options.h"
#include "base/token_set.h"

namespace sepllm {

enum class PolicyKind { kFull, kSep, kSepStream, kSink, kSinkStream, kFixed, kMoba, kSepMoba, kNsa };
enum class PositionMode { kOriginal, kCache };

// The rule of one layer where it is not that of the policy.
struct LayerChoice {
  PolicyKind kind = PolicyKind::kFull;  // any but the streaming ones
  int64_t window = 0;                   // 0: as without the choice (Policy::window, layer_window)
  int64_t interval = 0;                 // only for fixed; 0: Policy::interval
  int64_t block_size = 0;               // only for moba, sep-moba, nsa; 0: Policy::block_size
  int64_t blocks = 0;                   // only for moba, sep-moba, nsa; 0: Policy::blocks
  bool operator==(const LayerChoice&) const = default;
};

struct Policy {
  PolicyKind kind = PolicyKind::kFull;
  int64_t init = 4;  // a, >= 0
  // n, or w of sep-stream; >= 1. Static policies: includes the query. Streaming: slots of the local block.
  // nsa: that of the window branch.
  int64_t window = 256;
  int64_t seps = 64;            // s
  bool seps_unbounded = false;  // s and c grow as more separators come than fit
  bool sep_replace = false;     // a compression keeps only the newest batch of separators
  int64_t capacity = 800;       // c
  int64_t interval = 8;         // k of the fixed policy
  // sep, sep-stream: a token that is this far behind the last one that stays, stays too, whatever it is; 0:
  // only separators stay
  int64_t max_segment = 0;
  int64_t block_size = 64;  // B: tokens of a block (sep-moba: the least number)
  int64_t blocks = 8;       // K: blocks that a query sees, including its own
  int64_t max_block = 0;    // M, sep-moba: the largest number of tokens of a block; 0: 2 B
  PositionMode positions = PositionMode::kOriginal;
  // The text length that rotary frequencies are computed for, where they depend on it (rope types "dynamic"
  // and "longrope"). 0: the length of the model's training, max_position_embeddings. Keys in a cache are
  // rotated with these frequencies.
  int64_t rope_length = 0;
  std::map<int64_t, int64_t>
      layer_window;  // layer (negative: from the end) -> window or kUnlimited; static policies only
  std::map<int64_t, LayerChoice> layer_policy;  // layers (as above) with another rule; static policies only

  bool streaming() const { return kind == PolicyKind::kSepStream || kind == PolicyKind::kSinkStream; }
  // Whether the policy itself or one of its layers is of this kind.
  bool has(PolicyKind wanted) const;
  bool uses_separators() const {
    return has(PolicyKind::kSep) || kind == PolicyKind::kSepStream || has(PolicyKind::kSepMoba);
  }
  bool has_blocks() const {
    return has(PolicyKind::kMoba) || has(PolicyKind::kSepMoba) || has(PolicyKind::kNsa);
  }
  // Whether any layer may have a window: those of full attention and those with blocks have none.
  bool has_windows() const;
  // The choice for a layer; null if it follows the policy.
  const LayerChoice* choice_of(int64_t layer, int64_t n_layers) const;
  PolicyKind kind_of(int64_t layer, int64_t n_layers) const;
  // Window of a layer of a static policy; kUnlimited for full attention and for layers with blocks.
  // sink-stream: c - a + 1, of which the
  // query is one.
  int64_t window_of(int64_t layer, int64_t n_layers) const;
  // What the policy comes to in one layer. A layer that has a sliding window of its own keeps that window and
  // nothing else, under every policy; own_window 0: it has none.
  LayerRule rule(int64_t layer, int64_t n_layers, int64_t own_window = 0) const;
  // The rule of a layer without a window of its own, over these tokens (LayerRule::pattern).
  Pattern pattern(const int32_t* tokens, int64_t n_tokens, const TokenSet& separators, int64_t layer,
                  int64_t n_layers, std::vector<int64_t> document_starts = {}) const;
  // Error (kInvalidArgument) for values that contradict each other: a + s + w >= c, layer windows of a
  // streaming policy, ...
  void validate() const;
  // Error where layer_window or layer_policy names a layer that a model of n_layers does not have, or one
  // that has a sliding window of its own (own_windows: [n_layers], or empty), or where layer_window gives a
  // layer a window that layer_policy overrides. `file`: where the two were read, for the Error; empty: flags.
  void validate_layers(int64_t n_layers, std::span<const int64_t> own_windows = {},
                       const std::string& file = "") const;
};

// A policy and the settings that a user gives with it. They are read and printed in one place for flags,
// config.json, state files and requests.
struct PolicySettings {
  Policy policy;
  std::string separators = "text";  // the rule for text/separators.h
  DType kv = DType::kF32;           // element type of the cache
  int64_t prefill_chunk = 512;      // tokens per forward pass over text that is already known
};

const char* policy_name(PolicyKind kind);  // "full", "sep", "sep-stream", ...

// Declares the options --policy --init --window --seps --capacity --interval --max-segment --block-size
// --blocks --max-block --sep-replace --layer-window --layer-policy --separators --positions --rope-length
// --kv --prefill-chunk. `settings` must outlive `options`.
void declare_policy_options(OptionSet* options, PolicySettings* settings);
// Called after the flags are read. Takes the settings that flags left open from the model's config ("sepllm"
// in config.json, or null), fills in defaults that depend on the policy (cache positions for streaming) and
// validates. A flag that the chosen policy does not have is an Error (--window with sink-stream); keys of the
// config that do not apply to a policy chosen by flag are ignored, and so is its layer-policy.
void finish_policy_options(OptionSet* options, PolicySettings* settings, const Json& config_policy,
                           const std::string& config_file);
// Every setting in force; settings that the policy does not have are left out.
Json policy_json(const PolicySettings& settings);

}  // namespace sepllm
