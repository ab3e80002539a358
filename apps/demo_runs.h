// The measurements of `demo`: the same text and prompt under every policy.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "engine/scorer.h"

namespace sepllm {

struct DemoPlan {
  std::vector<PolicySettings> settings;  // one per policy
  std::vector<int32_t> ids;              // ids of the text, with BOS if the model has one
  bool has_bos = false;
  int64_t common_tokens = 0;  // tokens that are scored under every policy: within the position limit
  int64_t long_tokens = 0;    // tokens that are scored where the policy allows it; >= common_tokens
  int64_t prompt_tokens = 0;  // tokens of the text that form the prompt for generation
  int64_t new_tokens = 0;
  int64_t stretch = 0;  // tokens per point of the perplexity's curve

  // The number of tokens that go through the model for this many tokens of text.
  int64_t fed(int64_t text_tokens) const { return text_tokens + (has_bos ? 1 : 0); }
};

struct DemoRow {
  PolicySettings settings;
  ScoreResult common;  // on the first common_tokens
  KvStats common_kv;
  ScoreResult
      longest;  // on as many of long_tokens as the policy allows; equal to `common` if these are not more
  KvStats longest_kv;
  std::vector<std::pair<double, double>> kv_curve;  // (tokens, bytes held) over the longest run
  std::vector<std::pair<double, double>>
      perplexity_curve;  // (tokens, perplexity of the last `stretch` of them) over the longest run
  std::string generated;
  double decode_tokens_per_second = 0.0;
};

// The six policies, scaled to the model's position limit so that they differ within it; initial tokens,
// window and separators are those of its config.json if it has any.
std::vector<PolicySettings> demo_settings(const Model& model);

// `on_row` is called with the policy before each run.
std::vector<DemoRow> run_demo(const Model& model, const DemoPlan& plan, const Context& context,
                              const std::function<void(size_t index, const std::string& policy)>& on_row);

}  // namespace sepllm
