// A model as a user gives it: weights, tokenizer and separators.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "attention/policy.h"
#include "base/token_set.h"
#include "model/decoder.h"
#include "text/tokenizer.h"

namespace sepllm {

struct Model {
  std::string name;         // for messages: its folder, or its shape if it has no files
  std::string config_file;  // empty if it has none
  Decoder decoder;
  std::unique_ptr<Tokenizer> tokenizer;  // null if the folder has none and none was given

  const ModelConfig& config() const { return decoder.config(); }
  // Error (kNotFound) naming the tokenizer option if there is none.
  const Tokenizer& tokenizer_or_error() const;
  // The set of separators for these settings; empty if the policy needs none.
  TokenSet separators(const PolicySettings& settings) const;
  // The tokenizer's BOS, else the config's bos_token_id.
  std::optional<int32_t> bos_id() const;
  // bos_id(), used as the first token of an empty prompt. Error (kInvalidArgument) if there is none.
  int32_t start_token() const;
  // Tokens that end a text: those that generation_config.json states or, without that file, config.json, as
  // in transformers. If they state none: the tokenizer's EOS and the family's default.
  std::vector<int32_t> end_tokens() const;
  // Ids of a text according to `bos`: "auto" (only if the tokenizer's files say so), "on" or "off". Error for
  // a tokenizer larger than the embedding, or if there is no BOS to add.
  std::vector<int32_t> encode(const std::string& text, const std::string& bos) const;
};

// The settings for a text of `n_tokens`. If the model's rotary frequencies depend on the length of the text
// (rope types "dynamic" and "longrope"), they are computed for this length, or for
// settings.policy.rope_length if it is given.
PolicySettings settings_for_text(const Model& model, PolicySettings settings, int64_t n_tokens);

// finish_policy_options() with a model's own settings, and checks of what depends on the model. Error as for
// it and for Policy::validate_layers, and for a rope length where rotary frequencies do not depend on the
// text's length. A warning if the policy has no effect in this model. `model`: its folder or file.
// `policy_file`: a JSON file whose object (or its member "sepllm") is taken instead of the model's own
// settings; empty: there is none.
void finish_model_policy(OptionSet* options, PolicySettings* settings, const ModelConfig& config,
                         const std::string& model, const std::string& policy_file = "");

// If `tokenizer_path` is empty, the model's folder is used.
Model load_model(const std::string& folder, const std::string& tokenizer_path,
                 const WeightOptions& options = {});

// A model of one of shape_names() (model/shapes.h) with random weights, in bf16 unless the options name a
// type. It has no tokenizer if `tokenizer_path` is empty.
Model make_shape_model(const std::string& shape, const std::string& tokenizer_path,
                       const WeightOptions& options = {});

}  // namespace sepllm
