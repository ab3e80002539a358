// The names of a model's tensors as one checkpoint has them, where checkpoints differ: the base model's
// prefix, and which of the two tables at the ends of the model (the token embedding, the head) are stored.
#pragma once

#include <string>

#include "checkpoint/weight_store.h"
#include "model/config.h"

namespace sepllm {

struct StoredNames {
  std::string prefix;           // spec.prefix ("model.", "transformer.", ...) or ""
  std::string token_embedding;  // full, as is `head`; the same name where only one of the two is stored
  std::string head;
  bool tied = false;  // one table serves as both
};

// What a checkpoint of the family has by the book, tied as spec.config says.
StoredNames usual_names(const ModelSpec& spec);

// What this checkpoint has. The file counts more than config.json's "tie_word_embeddings", as in transformers
// 5: of tied tables either name serves for both, and two that differ are both used as they are. Where config
// and file contradict each other, one warning says what is done. A table that is not there at all is left to
// who takes it. Reads both tables where config ties them and both are stored.
StoredNames stored_names(const WeightStore& store, const ModelSpec& spec);

// read_model_spec(), tied as the folder's checkpoint is.
ModelSpec read_checkpoint_spec(const std::string& folder);

}  // namespace sepllm
