#include "engine/model.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "model/policy_effect.h"
#include "model/shapes.h"
#include "text/separators.h"

namespace sepllm {
namespace {

void take_tokenizer(Model* model, const std::string& path) {
  const int64_t vocab_size = model->config().vocab_size;
  model->tokenizer = load_tokenizer(path, vocab_size);
  if (model->tokenizer->vocab_size() <= vocab_size) return;
  throw Error(ErrorCode::kBadFile, "the tokenizer has more tokens than the model's embedding has rows",
              {.file = path,
               .expected = fmt::format("at most {}", vocab_size),
               .got = std::to_string(model->tokenizer->vocab_size())});
}

}  // namespace

const Tokenizer& Model::tokenizer_or_error() const {
  if (!tokenizer) {
    throw Error(ErrorCode::kNotFound, "the model has no tokenizer",
                {.file = name,
                 .hint = "give one with " + option_name("tokenizer") + ", or token ids instead of text"});
  }
  return *tokenizer;
}

TokenSet Model::separators(const PolicySettings& settings) const {
  const int64_t vocab_size = config().vocab_size;
  if (!settings.policy.uses_separators()) return TokenSet(vocab_size);
  if (!separators_need_tokenizer(settings.separators))
    return separators_from_ids(settings.separators, vocab_size);
  return make_separators(tokenizer_or_error(), settings.separators, vocab_size, settings.policy.streaming());
}

std::optional<int32_t> Model::bos_id() const {
  if (tokenizer && tokenizer->bos_id()) return tokenizer->bos_id();
  return config().bos_token_id;
}

int32_t Model::start_token() const {
  const std::optional<int32_t> bos = bos_id();
  if (!bos) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("the model has no BOS token for an empty prompt or {} on to start from",
                            option_name("bos")),
                {.hint = "give at least one token, and no " + option_name("bos") + " on"});
  }
  return *bos;
}

std::vector<int32_t> Model::end_tokens() const {
  std::vector<int32_t> ids = config().eos_token_ids;
  if (!config().eos_stated && tokenizer != nullptr && tokenizer->eos_id())
    ids.push_back(*tokenizer->eos_id());
  return ids;
}

std::vector<int32_t> Model::encode(const std::string& text, const std::string& bos) const {
  const Tokenizer& t = tokenizer_or_error();
  std::vector<int32_t> ids = t.encode(text);
  if (bos == "on" || (bos == "auto" && t.adds_bos())) ids.insert(ids.begin(), start_token());
  return ids;
}

PolicySettings settings_for_text(const Model& model, PolicySettings settings, int64_t n_tokens) {
  const RopeConfig* rope = model.config().rope_by_length();
  if (rope == nullptr) return settings;
  Policy& policy = settings.policy;
  if (policy.rope_length == 0) policy.rope_length = n_tokens;
  // With cache positions, no place beyond the slots is used. (Local layers keep positions of the text.)
  if (policy.positions == PositionMode::kCache && !model.config().all_layers_local())
    policy.rope_length = std::min(policy.rope_length, policy.capacity + 1);
  if (policy.rope_length <= rope->trained_length()) policy.rope_length = 0;
  return settings;
}

void finish_model_policy(OptionSet* options, PolicySettings* settings, const ModelConfig& config,
                         const std::string& model, const std::string& policy_file) {
  // Layers that no flag names are those of the file.
  const bool by_flag = options->was_set("layer-policy") || options->was_set("layer-window");
  if (policy_file.empty()) {
    finish_policy_options(options, settings, config.policy, config_path(model));
  } else {
    constexpr uint64_t kMaxBytes = uint64_t{1} << 20;
    const Json read = read_json(policy_file, kMaxBytes);
    const JsonObject object(read, policy_file);
    const bool inside = object.has("sepllm");
    finish_policy_options(options, settings, inside ? object.at("sepllm") : read, policy_file);
  }
  const std::string source = policy_file.empty() ? config_path(model) : policy_file;
  settings->policy.validate_layers(config.n_layers, config.own_windows(), by_flag ? "" : source);
  require_nsa_gates(settings->policy, config, model);
  warn_if_without_effect(settings->policy, config, model);
  if (settings->policy.rope_length > 0 && config.rope_by_length() == nullptr) {
    throw Error(ErrorCode::kInvalidArgument,
                option_name("rope-length") + " is for models of rope type dynamic or longrope",
                {.file = model, .got = config.ropes.empty() ? "no rotary positions" : config.ropes[0].type});
  }
}

Model load_model(const std::string& folder, const std::string& tokenizer_path, const WeightOptions& options) {
  Model model{folder, config_path(folder), Decoder::load(folder, options), nullptr};
  if (!tokenizer_path.empty() || has_tokenizer(folder)) {
    take_tokenizer(&model, tokenizer_path.empty() ? folder : tokenizer_path);
  }
  return model;
}

Model make_shape_model(const std::string& shape, const std::string& tokenizer_path,
                       const WeightOptions& options) {
  constexpr uint64_t kSeed = 1;
  const ModelSpec spec = shape_spec(shape);
  const DType type = options.type.value_or(DType::kBF16);
  if (options.before_memory) options.before_memory(spec.config, random_weight_memory(spec, type));
  ThreadPool pool(options.n_threads);
  Model model{shape, "", Decoder(spec.config, make_random_weights(spec, type, kSeed, pool)), nullptr};
  if (!tokenizer_path.empty()) take_tokenizer(&model, tokenizer_path);
  return model;
}

}  // namespace sepllm
