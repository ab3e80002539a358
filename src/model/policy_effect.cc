#include "model/policy_effect.h"

#include <fmt/format.h>

#include <string>

#include "base/log.h"

namespace sepllm {

void warn_if_without_effect(const Policy& policy, const ModelConfig& config, const std::string& source) {
  if ((policy.kind == PolicyKind::kFull && policy.layer_policy.empty()) || !config.all_layers_local()) return;
  log_warning(fmt::format(
      "{}: the policy {} has no effect, because every layer of this model has a sliding window of "
      "its own",
      source, policy_name(policy.kind)));
}

}  // namespace sepllm
