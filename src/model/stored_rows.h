// The tensors of a model as one list, whatever their names and order in a file: what reads a whole model from
// one kind of file and writes it in another walks over two such lists at the same time.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "checkpoint/weight_store.h"
#include "model/config.h"
#include "model/convert.h"
#include "model/stored_names.h"
#include "tensor/buffer.h"

namespace sepllm {

struct ModelTensor {
  // Tables: the token embedding and an untied head. Vectors: norms and biases.
  enum class Kind { kTable, kPositions, kLinear, kVector };

  std::string name{};  // in the file
  Kind kind = Kind::kVector;
  int64_t n_out = 0, n_in = 0;  // of a vector: its elements, and 1
  bool transposed = false;      // floats are stored as [n_in, n_out]
  RowOrder order{};             // of the rows, or elements, in the file
  float offset = 0;             // the file's numbers are larger by this
};

// In an order that depends only on the model and on whether its head is tied.
std::vector<ModelTensor> list_tensors(const ModelSpec& spec, const StoredNames& names);

// Where a tensor of the list lies in a checkpoint that load_weights() has accepted. `blocks`: spec.blocks.
StoredMatrix stored_matrix(const WeightStore& store, const ModelTensor& tensor, std::optional<DType> blocks);

// The rows of a tensor `from`, whose place in a checkpoint is `matrix`, as a file holds them in which it is
// the tensor `to`: in its order and with its offset, transposed where that has it transposed. Errors and
// `small` as model/convert.h.
Buffer moved_rows(const StoredMatrix& matrix, const ModelTensor& from, const ModelTensor& to, DType type,
                  ThreadPool& pool, SmallRows* small = nullptr);

}  // namespace sepllm
