#include "train/train_inputs.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>

#include "base/error.h"
#include "base/log.h"
#include "model/policy_effect.h"
#include "model/stored_names.h"
#include "text/separators.h"
#include "train/data_facts.h"
#include "train/new_model.h"
#include "train/training_data.h"

namespace sepllm {
namespace {

// Gates are part of the model from the first step, also if only the later policy needs them.
bool needs_nsa_gates(const TrainConfig& c) {
  return c.policy.policy.has(PolicyKind::kNsa) ||
         (c.later_policy_step > 0 && c.later_policy.policy.has(PolicyKind::kNsa));
}

Json read_stored_config(const TrainConfig& c, const Tokenizer& tokenizer) {
  if (!c.init_from.empty()) {
    // From here on the config says what the checkpoint holds, and what is read of it.
    Json json = text_model_config(read_config_json(c.init_from), config_path(c.init_from));
    const bool tied = read_checkpoint_spec(c.init_from).config.tied_embeddings;
    const HeldWarnings said;  // by the line above
    const bool stated = parse_model_spec(json, config_path(c.init_from)).config.tied_embeddings;
    if (tied != stated) json["tie_word_embeddings"] = tied;
    return json;
  }
  const int64_t vocab = c.vocab_size > 0 ? c.vocab_size : (tokenizer.vocab_size() + 63) / 64 * 64;
  return new_model_config(c, vocab, tokenizer.bos_id().value_or(-1), tokenizer.eos_id().value_or(-1));
}

Json read_model_config(const TrainConfig& c, const Tokenizer& tokenizer) {
  Json json = read_stored_config(c, tokenizer);
  if (needs_nsa_gates(c)) json[kNsaGatesKey] = true;
  return json;
}

void check_tokenizer(const TrainConfig& c, const Tokenizer& tokenizer, int64_t rows) {
  if (tokenizer.vocab_size() <= rows) return;
  throw Error(ErrorCode::kInvalidArgument,
              "the tokenizer has more tokens than the model's embedding has rows",
              {.file = c.tokenizer.empty() ? c.init_from : c.tokenizer,
               .expected = fmt::format("at most {}", rows),
               .got = std::to_string(tokenizer.vocab_size())});
}

void check_model(const TrainConfig& c, TrainInputs* inputs) {
  const std::string& from = c.init_from;
  const Json& json = inputs->model_config;
  if (from.empty()) check_tokenizer(c, *inputs->tokenizer, json["vocab_size"].get<int64_t>());
  const HeldWarnings said;  // read_model_config() has logged them already, on one rank
  inputs->spec = parse_model_spec(json, from.empty() ? "the new model" : config_path(from));
  const ModelConfig& model = inputs->spec.config;
  check_tokenizer(c, *inputs->tokenizer, model.vocab_size);
  if (model.position == PositionType::kLearned && c.seq_length > model.max_positions) {
    throw Error(
        ErrorCode::kInvalidArgument, "seq_length is larger than the model's learned positions",
        {.expected = fmt::format("at most {}", model.max_positions), .got = std::to_string(c.seq_length)});
  }
  c.policy.policy.validate_layers(model.n_layers, model.own_windows());
  if (c.later_policy_step > 0) c.later_policy.policy.validate_layers(model.n_layers, model.own_windows());
}

void warn_of_policies(const TrainConfig& c, const ModelConfig& model) {
  const std::string source = c.init_from.empty() ? "the new model" : c.init_from;
  warn_if_without_effect(c.policy.policy, model, source);
  if (c.later_policy_step > 0) warn_if_without_effect(c.later_policy.policy, model, source);
}

// Finds an id outside the vocabulary now, not at the first validation.
void check_held_out(const TrainConfig& c, TokenData* valid) {
  Sample sample;
  const int64_t n = std::min(c.eval_samples, valid->n_samples());
  for (int64_t i = 0; i < n; ++i) valid->next(&sample);
}

}  // namespace

TrainingPatterns TrainInputs::patterns(const TrainConfig& config, const PolicySettings& settings) const {
  const int64_t vocab = spec.config.vocab_size;
  TokenSet separators(vocab);
  if (settings.policy.uses_separators())
    separators = make_separators(*tokenizer, settings.separators, vocab, /*streaming=*/false);
  return {settings.policy, std::move(separators), config.document_mask};
}

TrainInputs open_train_inputs(const TrainConfig& config, Comm& comm) {
  TrainInputs inputs;
  comm.set_activity("opening its data");
  comm.run_or_fail_together([&] {
    if (config.global_batch_size < comm.size()) {
      throw Error(ErrorCode::kInvalidArgument, "fewer samples in a step than ranks",
                  {.place = "global_batch_size",
                   .expected = fmt::format("at least {}", comm.size()),
                   .got = std::to_string(config.global_batch_size)});
    }
    inputs.tokenizer = load_tokenizer(config.tokenizer.empty() ? config.init_from : config.tokenizer);
    if (comm.is_root()) inputs.model_config = read_model_config(config, *inputs.tokenizer);
  });
  if (comm.size() > 1)
    inputs.model_config =
        parse_json(comm.broadcast(python_json_text(inputs.model_config)), "rank 0's config.json");
  comm.run_or_fail_together([&] {
    check_model(config, &inputs);
    if (comm.is_root()) warn_of_policies(config, inputs.spec.config);
    // Checked before memory is taken for the parameters.
    if (comm.is_root() && !config.init_from.empty()) Parameters::open_weights(config.init_from, inputs.spec);
    TrainingData data = open_training_data(config, inputs.spec.config.vocab_size);
    inputs.data = std::move(data.train);
    inputs.valid = std::move(data.held_out);
    for (const TokenData* read : {inputs.data.get(), inputs.valid.get()}) {
      for (int64_t f = 0; read != nullptr && f < read->n_files(); ++f)
        check_prepared_with(read->file(f), *inputs.tokenizer);
    }
    if (inputs.valid) check_held_out(config, inputs.valid.get());
  });
  return inputs;
}

}  // namespace sepllm
