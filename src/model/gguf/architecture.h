// What the program knows of an architecture of GGUF files: how its metadata become the config.json of a
// Hugging Face folder, and in what its tensors differ from such a folder's. An architecture is one file in
// this folder and one line in the table (architectures.cc).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/json.h"
#include "checkpoint/weight_store.h"
#include "model/config.h"
#include "model/gguf/keys.h"
#include "model/gguf/write.h"

namespace sepllm {

// Where an architecture writes what it has to say about a model.
struct GgufTarget {
  std::string file;    // the model that is written, for messages
  std::string prefix;  // of its keys
  const Json& config;  // its config.json
  GgufModel* model;

  // Error (kUnsupported) about a setting for which the format has no key.
  [[noreturn]] void refuse(const std::string& what) const;
};

struct GgufArchitecture {
  const char* name;                   // "general.architecture"
  std::vector<const char*> families;  // whose models are written as this architecture
  // The members of config.json that the architecture decides, model_type among them. Error as for GgufKeys.
  Json (*config)(const GgufKeys& keys, const WeightStore& store);
  // Changes what differs from gguf_names() and from the family's order of rows; null: nothing.
  void (*adapt)(ModelSpec* spec);
  // Adds the keys that not every architecture has. Error (kUnsupported) for a model that the architecture
  // does not describe.
  void (*write)(const ModelConfig& config, GgufTarget* target);
};

const std::vector<const GgufArchitecture*>& gguf_architectures();
// Null if it is not known.
const GgufArchitecture* find_gguf_architecture(const std::string& name);

// --- For the files of architectures ---

inline constexpr const char* kGgufEmbedding = "token_embd.weight";
inline constexpr const char* kGgufHead = "output.weight";
inline constexpr const char* kGgufRopeFactors = "rope_freqs.weight";
inline constexpr const char* kGgufPolicyKey = "sepllm.policy";  // ours: the "sepllm" object of config.json

// Rows of the token embedding. Error (kNotFound) if it is missing.
int64_t gguf_vocab_size(const WeightStore& store);

// The names that all architectures share, for a model whose family has these names.
TensorNames gguf_names(const TensorNames& usual);

// The weights and the bias of this matrix have their rows in this order.
void set_row_order(const LinearName& name, const RowOrder& order, ModelSpec* spec);

// The model with the names and the orders of rows that files of the architecture have.
ModelSpec gguf_spec(const GgufArchitecture& architecture, ModelSpec spec);

// The keys of rotary positions. Error (kUnsupported) for a scaling that has no keys.
void gguf_write_rope(const ModelConfig& config, GgufTarget* target);

// The members of config.json that architectures of Llama's form share, with the rope and its scaling.
Json gguf_llama_form(const GgufKeys& keys, const char* model_type);
// The keys of such a model. Error (kUnsupported) for another activation and for sliding windows.
void gguf_write_llama_form(const ModelConfig& config, GgufTarget* target);
void gguf_write_head_dim(const ModelConfig& config, GgufTarget* target);
// GgufArchitecture::adapt for rows of q and k in pairs.
void gguf_pair_queries_and_keys(ModelSpec* spec);

// The smallest share of a head whose product with head_dim, rounded down, is `dim`.
double gguf_rotated_share(int64_t dim, int64_t head_dim);
// A tensor of n positive factors. Error (kBadFile) for another type or shape, and for other numbers.
std::vector<float> gguf_factors(const WeightStore& store, const char* name, int64_t n);
// The object with the scaling of positions in a config.json, which must be there.
const Json& gguf_scaling_of(const Json& config);

// "rope_scaling" of config.json from the keys rope.scaling.*; null if positions are not scaled. Error
// (kUnsupported) for types and settings that config.json cannot express.
Json gguf_rope_scaling(const GgufKeys& keys);

}  // namespace sepllm
