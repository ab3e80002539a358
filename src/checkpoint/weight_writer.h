// Writes a file of weights in the format of a Hugging Face folder.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "checkpoint/stored_tensor.h"

namespace sepllm {

class SafetensorsWriter;

// How a file calls the type of such elements: "F32", "F16", "BF16", "F64"; "U8" for blocks.
const char* stored_name(DType type);

// Atomically, and one tensor at a time. `name`, `shape` and `type` of the tensors count (`dtype` where they
// have no type of ours); a matrix of blocks [n_out, n_in] is stored as bytes [n_out, row_bytes(type, n_in)].
// Error (kIo).
class WeightWriter {
 public:
  WeightWriter(const std::string& path, const std::vector<StoredTensor>& tensors);
  ~WeightWriter();

  // The tensors' names in the order in which write() takes their data.
  std::vector<std::string> order() const;
  void write(const void* data);  // of the next tensor
  void commit();                 // after the last; without it nothing remains

 private:
  std::unique_ptr<SafetensorsWriter> file_;
};

// The same, of tensors whose data is at hand.
void write_weight_file(const std::string& path, const std::vector<StoredTensor>& tensors);

}  // namespace sepllm
