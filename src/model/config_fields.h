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
  // The value; for a field of layers, a list if they differ. Nullopt: the model has nothing of the kind.
  std::optional<Json> shown{};
  // The bytes that enter the hash; empty: nothing is computed with it, or it has its usual value.
  std::string hashed{};
  bool of_layers = false;  // each layer has a value of its own, though they may be equal
};

// Every field, in the order in which it is hashed. Whatever is hashed is shown. A field that was added after
// files with hashes had been written is hashed with its name, and only if it differs from what all earlier
// models had: so their hashes stay the same.
std::vector<ConfigField> config_fields(const ModelConfig& config);

// Adds everything that a model of this config computes with, and nothing that it only says of itself.
void add_hash(Hash64* hash, const ModelConfig& config);

}  // namespace sepllm
