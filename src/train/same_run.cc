#include "train/same_run.h"

#include <cstdint>
#include <string>

#include "base/error.h"

namespace sepllm {
namespace {

constexpr const char* kFixed[] = {"family",
                                  "init",
                                  "n_layers",
                                  "hidden_size",
                                  "n_heads",
                                  "n_kv_heads",
                                  "intermediate_size",
                                  "vocab_size",
                                  "rotary_pct",
                                  "rope_theta",
                                  "tie_embeddings",
                                  "seq_length",
                                  "valid_share",
                                  "document_mask",
                                  "seed",
                                  "policy"};

[[noreturn]] void refuse_change(const std::string& file, const std::string& key, const Json& then,
                                const Json& now) {
  throw Error(ErrorCode::kInvalidArgument, "the run was started with another " + key,
              {.file = file,
               .place = key,
               .expected = json_text(then),
               .got = json_text(now),
               .hint = "use another folder for the run (save), or the settings that it started with"});
}

Json value_of(const Json& json, const std::string& key) {
  return json.is_object() && json.contains(key) ? json[key] : Json();
}

// The step at which the policy changed, if that step is done; else null.
Json change_of_policy(const Json& settings, int64_t steps_done) {
  const Json step = value_of(settings, "later_policy_step");
  const bool done = step.is_number_integer() && step.get<int64_t>() > 0 && step.get<int64_t>() <= steps_done;
  return done ? step : Json();
}

}  // namespace

void check_same_run(const TrainState& state, const TrainConfig& config, uint64_t data_fingerprint,
                    const std::string& file) {
  const Json now = train_config_json(config);
  for (const char* key : kFixed) {
    const Json then = value_of(state.settings, key);
    if (!then.is_null() && then != value_of(now, key)) refuse_change(file, key, then, value_of(now, key));
  }
  const Json then = change_of_policy(state.settings, state.step);
  if (then != change_of_policy(now, state.step))
    refuse_change(file, "later_policy_step", then, value_of(now, "later_policy_step"));
  if (!then.is_null() && value_of(state.settings, "later_policy") != value_of(now, "later_policy"))
    refuse_change(file, "later_policy", value_of(state.settings, "later_policy"),
                  value_of(now, "later_policy"));
  if (state.data_fingerprint != data_fingerprint) {
    throw Error(ErrorCode::kInvalidArgument, "the run was started with other data",
                {.file = file,
                 .place = "data",
                 .hint = "use another folder for the run (save), or the data that it started with"});
  }
}

}  // namespace sepllm
