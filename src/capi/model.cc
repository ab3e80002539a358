#include "capi/model.h"

#include <sepllm/sepllm.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/dtype.h"
#include "base/error.h"
#include "base/json.h"
#include "base/options.h"
#include "capi/guard.h"
#include "engine/walk_choice.h"
#include "kernels/cpu_features.h"

namespace sepllm::capi {
namespace {

struct LoadOptions {
  std::string tokenizer, weights = "native";
  int64_t threads = 0;
  bool walks = true;

  void read(const char* json) {
    OptionSet options;
    options.add_string("tokenizer", &tokenizer, "");
    options.add_string("weights", &weights, "");
    options.add_int("threads", &threads, 0, 1024, "");
    options.add_flag("walks", &walks, "");
    apply_options(&options, json);
  }
};

std::optional<DType> weight_type(const std::string& name) {
  if (name == "native") return std::nullopt;
  std::string names = "native";
  for (const DTypeInfo& info : kDTypeInfos) {
    if (!is_weight_type(info.type)) continue;
    if (name == info.name) return info.type;
    names += std::string(", ") + info.name;
  }
  throw Error(ErrorCode::kInvalidArgument, "wrong value for " + option_name("weights"),
              {.expected = "one of " + names, .got = "'" + name + "'"});
}

std::shared_ptr<LoadedModel> load(const char* path, const char* json) {
  LoadOptions o;
  o.read(json);
  auto runtime = std::make_shared<Runtime>(static_cast<int>(o.threads));
  const WeightOptions weights{.type = weight_type(o.weights), .n_threads = runtime->size()};
  auto loaded = std::make_shared<LoadedModel>(load_model(path, o.tokenizer, weights), runtime);
  // Nothing is remembered in a file: a library writes none that it is not told to write.
  if (o.walks) choose_walks(runtime->context(), &loaded->model.decoder, {.mode = WalkMode::kOn});
  return loaded;
}

Json info(const LoadedModel& loaded) {
  const Model& model = loaded.model;
  const ModelConfig& config = model.config();
  Json out = {{"family", config.family},
              {"vocab_size", config.vocab_size},
              {"hidden_size", config.hidden_size},
              {"n_layers", config.n_layers},
              {"n_heads", config.n_heads},
              {"n_kv_heads", config.n_kv_heads},
              {"head_dim", config.head_dim},
              {"max_positions", config.max_positions},
              {"parameters", parameter_count(model.decoder.weights())},
              {"weight_bytes", weight_bytes(model.decoder.weights())},
              {"bos_id", nullptr},
              {"end_tokens", model.end_tokens()},
              {"policy", config.policy},
              {"tokenizer", nullptr},
              {"version", SEPLLM_VERSION},
              {"instruction_sets", instruction_sets()},
              {"threads", loaded.runtime->size()}};
  if (const auto bos = model.bos_id()) out["bos_id"] = *bos;
  if (model.tokenizer) out["tokenizer"] = model.tokenizer->format();
  return out;
}

}  // namespace

SessionSettings session_settings(const Model* model, const char* json) {
  SessionSettings out;
  OptionSet options;
  declare_policy_options(&options, &out.policy);
  options.add_flag("rewind", &out.rewind, "");
  options.add_flag("exact", &out.exact, "");
  apply_options(&options, json);
  if (model == nullptr) {
    finish_policy_options(&options, &out.policy, Json(), "");
    return out;
  }
  finish_model_policy(&options, &out.policy, model->config(), model->name);
  out.policy = settings_for_text(*model, out.policy, out.policy.policy.rope_length);
  return out;
}

}  // namespace sepllm::capi

using namespace sepllm;        // NOLINT(google-build-using-namespace)
using namespace sepllm::capi;  // NOLINT(google-build-using-namespace)

sepllm_status sepllm_model_load(const char* path, const char* options, sepllm_model** out) {
  return guarded([&] {
    given(out, "out");
    given(path, "path");
    *out = new sepllm_model{load(path, options)};
  });
}

void sepllm_model_free(sepllm_model* model) { delete model; }

sepllm_status sepllm_model_info(const sepllm_model* model, char** out) {
  return guarded([&] {
    given(out, "out");
    *out = copy_text(json_text(info(*given(model, "model").shared)));
  });
}

int64_t sepllm_model_vocab_size(const sepllm_model* model) {
  return model == nullptr ? 0 : model->shared->model.config().vocab_size;
}

sepllm_status sepllm_policy_resolve(const sepllm_model* model, const char* options, char** out) {
  return guarded([&] {
    given(out, "out");
    const SessionSettings settings =
        session_settings(model != nullptr ? &model->shared->model : nullptr, options);
    *out = copy_text(json_text(policy_json(settings.policy)));
  });
}
