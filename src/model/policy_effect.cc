#include "model/policy_effect.h"

#include <fmt/format.h>

#include <cstdint>
#include <iterator>
#include <string>

#include "base/error.h"
#include "base/log.h"
#include "base/options.h"

namespace sepllm {

void warn_if_without_effect(const Policy& policy, const ModelConfig& config, const std::string& source) {
  if ((policy.kind == PolicyKind::kFull && policy.layer_policy.empty()) || !config.all_layers_local()) return;
  log_warning(fmt::format(
      "{}: the policy {} has no effect, because every layer of this model has a sliding window of "
      "its own",
      source, policy_name(policy.kind)));
}

void require_nsa_gates(const Policy& policy, const ModelConfig& config, const std::string& source) {
  for (int64_t l = 0; l < std::ssize(config.layers); ++l) {
    const LayerSpec& layer = config.layer(l);
    if (!policy.rule(l, config.n_layers, layer.window).blocks.nsa() || layer.nsa_gates) continue;
    throw Error(ErrorCode::kInvalidArgument, "the model has no gates for native sparse attention",
                {.file = source,
                 .place = fmt::format("layer {}", l),
                 .got = option_name("policy") + " nsa",
                 .hint = "`sepllm train` with policy nsa adds them (init_from: this model)"});
  }
}

}  // namespace sepllm
