// The trainable parameters of a model: f32, one after the other in one buffer, under their Hugging Face
// names, and the views of them that the decoder reads: of the same numbers, or of copies of the matrices in
// bf16.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "model/config.h"
#include "model/weights.h"
#include "tensor/buffer.h"
#include "tensor/tape.h"

namespace sepllm {

struct ParameterInfo {
  std::string name;            // as in a checkpoint of the family, with the base model's prefix
  std::vector<int64_t> shape;  // as stored there
  int64_t offset = 0;          // elements from the start of the buffer, a multiple of 16
  int64_t size = 0;            // elements
  bool decays = false;         // matrices and embeddings; norms and biases do not
};

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
    rounded_is_old_ = true;
    return buffer_.as<float>();
  }
  const float* data() const { return buffer_.as<float>(); }
  float* values(const ParameterInfo& p) { return data() + p.offset; }

  // Copies the values of a checkpoint of the same model, tied as it is (a check), in any float type. Error as
  // open_weights.
  void load(const std::string& folder, const ModelSpec& spec);
  // The weights that load() would copy. Error as load_weights, and (kUnsupported) for quantised ones.
  static ModelWeights open_weights(const std::string& folder, const ModelSpec& spec);

  // bf16: views() and name_gradients() are from now on of copies of all matrices (embeddings too) in bf16,
  // 2 bytes a parameter more; norms and biases stay f32. The f32 values remain those that are trained, saved
  // and loaded. Error (kOutOfRange) where memory is not enough.
  void set_storage(DType type);
  // Rounds the values to the copies, where they may have changed (to nearest, ties to even).
  void refresh(ThreadPool& pool);
  int64_t storage_bytes() const { return buffer_.bytes() + rounded_.bytes(); }

  // What a Decoder needs: views into this object, which must outlive them.
  ModelWeights views() const;

  // Names to the tape where each gradient goes: gradients[p.offset] on, an array of size() elements.
  void name_gradients(Tape& tape, float* gradients) const;

 private:
  const void* view(const ParameterInfo& p) const;

  ModelSpec spec_;
  std::vector<ParameterInfo> list_;
  std::vector<int64_t> layer_begins_;
  int64_t size_ = 0;
  Memory memory_;
  Buffer buffer_,
      rounded_;  // rounded_: bf16, with the same layout; empty where the values themselves are read
  bool rounded_is_old_ = true;
};

}  // namespace sepllm
