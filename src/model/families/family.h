// What the program knows of a family of models. A family is one file in this folder, which defines a Family,
// and one line in the registry (families.cc); nothing outside this folder asks which family a model belongs
// to.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "base/json.h"
#include "model/config.h"

namespace sepllm {

// The sizes of a new model.
struct NewModelSizes {
  int64_t hidden_size = 0, n_layers = 0, n_heads = 0;
  int64_t n_kv_heads = 0;         // n_heads for a family without grouped heads
  int64_t intermediate_size = 0;  // 0: the usual size of the family
  int64_t max_positions = 0;
  double rotary_pct = 0.25, rope_theta = 10000.0;
};

// One form of the family as a tiny model with random weights, for tests.
struct TinyVariant {
  const char* name;
  // Members that replace those of new_config() or are added to them.
  Json (*changes)(const NewModelSizes& sizes);
};

struct Family {
  const char* name;
  const char* architecture;              // HF "architectures"
  std::vector<const char*> model_types;  // HF "model_type"; new models get the first one
  ModelSpec (*parse)(const JsonObject& config);
  // For families with multimodal models: the config.json that the text model of such a model would have by
  // itself, which parse() then gets; null for other configs. Null pointer: the family has no such models.
  Json (*text_config)(const JsonObject& config) = nullptr;

  // Members of a new model's config.json, except for those that every family has (model_type, vocab_size,
  // token ids, tie_word_embeddings, torch_dtype).
  Json (*new_config)(const NewModelSizes& sizes);
  // Keys of training's settings that have no effect on a new model of the family, and why.
  std::vector<std::pair<const char*, const char*>> unused_settings;
  bool always_tied = false;  // the head is the embedding

  std::vector<TinyVariant> variants;
};

const std::vector<const Family*>& families();
// The family of this name, which must exist (checked).
const Family& family_of_name(const std::string& name);

}  // namespace sepllm
