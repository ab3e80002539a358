// Models and their tokenizers.
#pragma once

#include <sepllm/sepllm.h>

#include <memory>
#include <utility>

#include "attention/policy.h"
#include "capi/runtime.h"
#include "engine/model.h"

namespace sepllm::capi {

class LoadedModel {
 public:
  LoadedModel(Model model, std::shared_ptr<Runtime> runtime)
      : model(std::move(model)), runtime(std::move(runtime)) {}

  Model model;
  std::shared_ptr<Runtime> runtime;  // for sessions without one of their own
};

// What a session is made with.
struct SessionSettings {
  PolicySettings policy;
  bool rewind = true;
  bool exact = false;
};
// Those of a JSON object; what it leaves open is as the model says, or (null) as without a model's own
// settings. Error (kInvalidArgument).
SessionSettings session_settings(const Model* model, const char* options);

}  // namespace sepllm::capi

struct sepllm_model {
  std::shared_ptr<sepllm::capi::LoadedModel> shared;
};

struct sepllm_tokenizer {
  std::shared_ptr<const sepllm::Tokenizer> shared;
};
