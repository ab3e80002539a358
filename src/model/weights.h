// The weights of one model, found by name in a checkpoint and checked against its config: everything that the
// decoder reads of them.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "checkpoint/weight_store.h"
#include "model/config.h"
#include "model/layer_parts.h"
#include "model/stored_names.h"
#include "tensor/buffer.h"
#include "tensor/view.h"

namespace sepllm {

struct Norm {
  const float* weight = nullptr;  // [n]; null: the model has no such norm
  const float* bias = nullptr;    // [n] or null
  int64_t n = 0;
};

struct Linear {
  Weight weight;
  const float* bias = nullptr;  // [n_out] or null
  int64_t out_offset = 0;       // first element of its output in the fused QKV row; 0 elsewhere
};

using LayerWeights = LayerParts<Norm, Linear>;

// Matrices are views into the mapped checkpoint, aligned to their element; those that have another type than
// the stored one are owned. Norms and biases are f32 copies. The object can be moved, and the views live as
// long as it does.
struct ModelWeights {
  Weight token_embedding;     // [vocab_size, hidden_size]
  Weight position_embedding;  // [max_positions, hidden_size]; data null: no learned positions
  std::vector<LayerWeights> layers;
  Norm final_norm;
  Linear head;  // [vocab_size, hidden_size]; the embedding itself if tied

  WeightStore store;
  std::vector<Buffer> vectors;   // the f32 norms and biases
  std::vector<Buffer> matrices;  // the matrices whose type or place differs from the stored one

  // The head is the token embedding.
  bool tied() const { return head.weight.data == token_embedding.data; }

  ModelWeights() = default;
  explicit ModelWeights(WeightStore weight_store) : store(std::move(weight_store)) {}
  ModelWeights(ModelWeights&&) = default;
  ModelWeights& operator=(ModelWeights&&) = default;
};

// The type of the token embedding and the head if the linears have `type`: less than 8 bits are too few for
// them, so they get q8_0.
DType table_type(DType type);

// Bytes of a model's weights: in memory of their own (converted, copied or generated), and in the mapped
// files, whose pages the system can drop and read again.
struct WeightMemory {
  int64_t owned = 0, mapped = 0;
};

struct WeightOptions {
  // The type of the linears' matrices; the token embedding and the head get table_type() of it. Nullopt: as
  // stored. Position embeddings, norms and biases do not change.
  std::optional<DType> type{};
  int n_threads = 1;  // threads for conversion
  // Matrices that keep the stored type stay where they are, even if they are not aligned to their element,
  // are blocks, or have their rows in another order. Such weights can be copied, but the model cannot be run.
  bool unaligned = false;
  // Called when config.json and the checkpoint's headers have been read, before memory is taken for a matrix;
  // an Error that it throws ends the loading.
  std::function<void(const ModelConfig&, const WeightMemory&)> before_memory{};
};

// Bytes of a matrix [n_out, n_in] in memory, as rows or, for block types, as panels.
int64_t matrix_bytes(DType type, int64_t n_out, int64_t n_in);

// The memory of existing weights.
WeightMemory weight_memory(const ModelWeights& weights);

// Resolves every tensor of `spec` in a checkpoint, whose `names` are stored_names(store, spec). Error for: a
// missing tensor (naming the nearest existing name), another shape or dtype, NaN or infinite values in a norm
// or bias; all before memory is taken for a matrix. One warning for tensors that the model does not have
// (except `spec.ignored_suffixes` and `ignored_prefixes`, and the stored head of a tied model), one for an
// index that places tensors wrongly. Matrices of the wanted type are not read here: check_finite() does that.
// Others, f64 and stored blocks, are converted into memory of the model's own, with the Errors and warnings
// of model/convert.h.
ModelWeights load_weights(WeightStore store, const ModelSpec& spec, const StoredNames& names,
                          const WeightOptions& options = {});
// The same from the checkpoint in `folder`. (The checkpoint decides whether the model is tied:
// ModelWeights::tied().)
ModelWeights load_weights(const std::string& folder, const ModelSpec& spec,
                          const WeightOptions& options = {});

// Reads every weight once that is a float in the file (blocks were checked when they were loaded). Error
// (kBadFile) naming the first tensor and index with a NaN or infinite value.
void check_finite(const ModelWeights& weights);

// Number of parameters; a tied head counts once.
int64_t parameter_count(const ModelWeights& weights);

// Bytes of all weights, in memory or in the mapped files; a tied head counts once.
int64_t weight_bytes(const ModelWeights& weights);

// The matrices that every token is multiplied with: those of the layers and the head.
std::vector<Weight*> multiplied_matrices(ModelWeights* weights);

// Bytes of the weights that every token is multiplied with: all except tables of embeddings, of which a token
// needs only one row.
int64_t multiplied_bytes(const ModelWeights& weights);

}  // namespace sepllm
