// The fields of a config, as one list: `sepllm inspect` prints it, and states and checkpoints tell models
// apart by its hash.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/json.h"
#include "model/config.h"

namespace sepllm {

struct ConfigField {
  std::string name;  // "NAME", or "GROUP.NAME" in a group of fields
  // The value; of a field of layers, a list where they differ. None: the model has nothing of the kind.
  std::optional<Json> shown{};
  std::string
      hashed{};  // the bytes that enter the hash; none: nothing is computed with it, or it is as usual
};

// Every field, in the order in which it is hashed. Whatever is hashed is shown. A field that was added after
// files with hashes had been written is hashed with its name, and only where it is not as all models had it
// before: their hashes stay what they were.
std::vector<ConfigField> config_fields(const ModelConfig& config);

// Adds all that a model of this config computes with, and none of what it only says of itself.
void add_hash(Hash64* hash, const ModelConfig& config);

}  // namespace sepllm
