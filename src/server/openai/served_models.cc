#include "server/openai/served_models.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/options.h"
#include "model/policy_effect.h"
#include "server/openai/api_error.h"
#include "server/openai/fields.h"

namespace sepllm::server {

const ServedModel& ServedModels::find(const std::string& name) const {
  if (name.empty()) return models_.front();
  for (const ServedModel& model : models_) {
    if (model.name == name) return model;
  }
  std::vector<std::string> names;
  names.reserve(models_.size());
  for (const ServedModel& model : models_) names.push_back(model.name);
  throw ApiError(404,
                 fmt::format("the model '{}' does not exist; served are: {}", name.substr(0, 100),
                             fmt::join(names, ", ")),
                 "model", "model_not_found");
}

PolicySettings ServedModels::policy(const ServedModel& model, const Json* request) const {
  if (request == nullptr) return model.policy;
  const Fields fields(*request, "sepllm");
  // A chunk takes scratch memory for all requests, which is the server's to decide.
  if (fields.find("prefill-chunk") != nullptr)
    throw ApiError(400, "'sepllm.prefill-chunk' is an option of the server", "sepllm.prefill-chunk");
  try {
    return changed_policy(model.policy, *request, "the request", config_);
  } catch (const Error& error) {
    throw as_api_error(error, "sepllm");
  }
}

PolicySettings changed_policy(const PolicySettings& base, const Json& changes, const std::string& source,
                              const ModelConfig& config) {
  PolicySettings settings;
  OptionSet options;
  declare_policy_options(&options, &settings);
  options.apply_json(JsonObject(changes, source, "sepllm"));
  finish_policy_options(&options, &settings, policy_json(base), source);
  settings.policy.validate_layers(config.n_layers, config.own_windows());
  require_nsa_gates(settings.policy, config, source);
  return settings;
}

ServedModel parse_alias(const std::string& text, const PolicySettings& base, const ModelConfig& config) {
  constexpr const char* kForm = "NAME=POLICY,OPTION=VALUE,... as in fast=sep-stream,seps=64";
  const size_t equals = text.find('=');
  if (equals == 0 || equals == std::string::npos) refuse_value("alias", kForm, text);
  Json changes = Json::object();
  std::string_view rest = std::string_view(text).substr(equals + 1);
  for (bool first = true; first || !rest.empty(); first = false) {
    const std::string_view item = rest.substr(0, rest.find(','));
    rest.remove_prefix(std::min(rest.size(), item.size() + 1));
    const size_t at = item.find('=');
    if (item.empty() || (at == std::string_view::npos && !first)) refuse_value("alias", kForm, text);
    if (at == std::string_view::npos) {
      changes["policy"] = std::string(item);
    } else {
      changes[std::string(item.substr(0, at))] = std::string(item.substr(at + 1));
    }
  }
  return {text.substr(0, equals), changed_policy(base, changes, option_name("alias") + " " + text, config)};
}

}  // namespace sepllm::server
