// The names of a model's tensors in one checkpoint, where checkpoints differ: the base model's prefix, and
// which of the two tables at the ends of the model (the token embedding, the head) are stored.
#pragma once

#include <string>

#include "checkpoint/weight_store.h"
#include "model/config.h"

namespace sepllm {

struct StoredNames {
  std::string prefix;  // spec.prefix ("model.", "transformer.", ...), one of spec.other_prefixes, or ""
  // full name, like `head`; both are the same name if only one of the two is stored
  std::string token_embedding;
  std::string head;
  bool tied = false;  // one table is used for both
};

// The usual names in a checkpoint of the family, tied as spec.config says.
StoredNames usual_names(const ModelSpec& spec);

// The names in this checkpoint. The file has priority over config.json's "tie_word_embeddings", as in
// transformers 5: for tied tables either name serves for both, and two tables that differ are both used. If
// config and file contradict each other, one warning says what is done. If a table does not exist at all, the
// code that loads it reports this. Reads both tables if config ties them and both are stored.
StoredNames stored_names(const WeightStore& store, const ModelSpec& spec);

// read_model_spec(), with tying as in the folder's checkpoint.
ModelSpec read_checkpoint_spec(const std::string& folder);

}  // namespace sepllm
