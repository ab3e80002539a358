// The names under which the model is served, each with a policy.
#pragma once

#include <string>
#include <vector>

#include "attention/policy.h"
#include "base/json.h"
#include "model/config.h"

namespace sepllm::server {

struct ServedModel {
  std::string name;
  PolicySettings policy;  // finished and validated
};

class ServedModels {
 public:
  // The first one is used where a request names none. `config` must outlive this object.
  ServedModels(const ModelConfig& config, std::vector<ServedModel> models)
      : config_(config), models_(std::move(models)) {}

  const std::vector<ServedModel>& all() const { return models_; }
  // The one that a request names; an empty name is the first one. ApiError (404).
  const ServedModel& find(const std::string& name) const;
  // The policy of `model` with what a request says in its member "sepllm" (null: nothing). ApiError (400).
  PolicySettings policy(const ServedModel& model, const Json* request) const;

 private:
  const ModelConfig& config_;
  std::vector<ServedModel> models_;
};

// The settings of `base`, with those that `changes` (an object of policy options) names replaced. Error as
// for finish_policy_options and Policy::validate_layers.
PolicySettings changed_policy(const PolicySettings& base, const Json& changes, const std::string& source,
                              const ModelConfig& config);

// "NAME=sep-stream,seps=64": a name, a policy, and options of the policy. Error (kInvalidArgument).
ServedModel parse_alias(const std::string& text, const PolicySettings& base, const ModelConfig& config);

}  // namespace sepllm::server
