// The trainable parameters of a model: f32, one after the other in one buffer, under their Hugging Face
// names, and the views of them that the decoder reads, either of the same numbers or of bf16 copies of the
// matrices.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "model/config.h"
#include "model/weights.h"
#include "tensor/buffer.h"
#include "tensor/tape.h"

namespace sepllm {

struct ParameterInfo {
  std::string name;            // as in a checkpoint of the family, including the base model's prefix
  std::vector<int64_t> shape;  // as stored there
  int64_t offset = 0;          // elements from the start of the buffer, a multiple of 16
  int64_t size = 0;            // elements
  bool decays = false;         // true for matrices and embeddings, false for norms and biases
};

// The names of the matrices of NSA's gates.
std::set<std::string> gate_names(const ModelSpec& spec);

class Parameters {
 public:
  // The tensors that the family has (a tied head is the embedding), all zero.
  explicit Parameters(const ModelSpec& spec, Memory memory = Memory::kZeros);

  const std::vector<ParameterInfo>& list() const { return list_; }
  int64_t size() const { return size_; }  // elements of the buffer, padding included
  int64_t count() const;                  // parameters, without padding
  // Where each layer's begin in the buffer, and where the last one's end: [n_layers + 1]. Embeddings lie
  // before them, the final norm and the head behind.
  const std::vector<int64_t>& layer_begins() const { return layer_begins_; }
  // Who has this may change the values: the bf16 copies count as out of date.
  float* data() {
    rounded_until_ = 0;
    return buffer_.as<float>();
  }
  const float* data() const { return buffer_.as<float>(); }
  float* values(const ParameterInfo& p) { return data() + p.offset; }

  // Copies the values of a checkpoint of the same model, with the same tying (checked), in any float type.
  // Error as for open_weights.
  void load(const std::string& folder, const ModelSpec& spec);
  // The weights that load() would copy. Error as for load_weights, and (kUnsupported) for quantised ones.
  static ModelWeights open_weights(const std::string& folder, const ModelSpec& spec);

  // bf16: from now on views() and name_gradients() refer to bf16 copies of all matrices (including
  // embeddings), 2 more bytes per parameter; norms and biases stay f32. The f32 values remain those that are
  // trained, saved and loaded. Error (kOutOfRange) if there is not enough memory.
  void set_storage(DType type);
  // Rounds the values to the copies (to nearest, ties to even) as far as they may have changed: those of the
  // elements before `end`, whose values are final.
  void refresh(ThreadPool& pool, int64_t end);
  void refresh(ThreadPool& pool) { refresh(pool, size_); }
  int64_t storage_bytes() const { return buffer_.bytes() + rounded_.bytes(); }

  // The views that a Decoder needs; this object must outlive them.
  ModelWeights views() const;

  // Tells the tape where each gradient goes: at gradients[p.offset], in an array of size() elements.
  void name_gradients(Tape& tape, float* gradients) const;

 private:
  const void* view(const ParameterInfo& p) const;

  ModelSpec spec_;
  std::vector<ParameterInfo> list_;
  std::vector<int64_t> layer_begins_;
  int64_t size_ = 0;
  Memory memory_;
  Buffer buffer_, rounded_;    // rounded_: bf16 in the same layout; empty if the values themselves are read
  int64_t rounded_until_ = 0;  // copies of the elements before it are up to date
};

}  // namespace sepllm
