#include "model/policy_effect.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "base/log.h"
#include "model/random_model.h"
#include "tests/support/expect_error.h"

namespace sepllm {
namespace {

std::vector<std::string> warnings_of(const ModelConfig& config, PolicyKind kind) {
  std::vector<std::string> lines;
  LogSink old = set_log_sink([&](LogLevel, const std::string& text) { lines.push_back(text); });
  Policy policy;
  policy.kind = kind;
  warn_if_without_effect(policy, config, "folder");
  set_log_sink(std::move(old));
  return lines;
}

TEST(PolicyEffect, AWarningSaysThatEveryLayerHasItsOwnWindow) {
  ModelConfig c = parse_model_spec(random_model_config({.variant = "llama"}), "config.json").config;
  EXPECT_TRUE(warnings_of(c, PolicyKind::kSep).empty());
  for (LayerSpec& layer : c.layers) layer.window = 8;
  for (const PolicyKind kind : {PolicyKind::kSep, PolicyKind::kSinkStream, PolicyKind::kFixed}) {
    const std::vector<std::string> lines = warnings_of(c, kind);
    ASSERT_EQ(lines.size(), 1U);
    EXPECT_EQ(lines[0].rfind("folder: the policy " + std::string(policy_name(kind)) + " has no effect", 0),
              0U)
        << lines[0];
  }
  EXPECT_TRUE(warnings_of(c, PolicyKind::kFull).empty());
  c.layers.back().window = 0;  // this layer follows the policy
  EXPECT_TRUE(warnings_of(c, PolicyKind::kSep).empty());
}

TEST(PolicyEffect, NsaNeedsGates) {
  ModelSpec spec = parse_model_spec(random_model_config({.variant = "llama", .n_layers = 2}), "config.json");
  Policy policy;
  policy.layer_policy = {{1, {.kind = PolicyKind::kNsa}}};
  test::expect_error([&] { require_nsa_gates(policy, spec.config, "folder"); }, ErrorCode::kInvalidArgument,
                     {"folder", "layer 1", "nsa", "train"});
  add_nsa_gates(&spec, "config.json");
  require_nsa_gates(policy, spec.config, "folder");
  policy.layer_policy = {};
  spec = without_nsa_gates(spec);
  require_nsa_gates(policy, spec.config, "folder");
}

}  // namespace
}  // namespace sepllm
