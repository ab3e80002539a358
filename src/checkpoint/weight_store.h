// The tensors of a checkpoint by name, whatever the number of files: model.safetensors, or
// model.safetensors.index.json and its shards.
#pragma once

#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "checkpoint/safetensors.h"
#include "tensor/view.h"

namespace sepllm {

class WeightStore {
 public:
  // `folder`: a HF folder. Error for: no safetensors file, an index that names a shard outside the folder, an
  // absent shard, a tensor that the index places in a shard which has it not, a tensor in two shards.
  static WeightStore open(const std::string& folder);

  bool has(const std::string& name) const;
  // A float tensor of exactly this shape; marks it as used. Error (kNotFound, kBadFile) naming file, tensor,
  // expected and got for a missing tensor, a dtype other than F32/F16/BF16, or another shape.
  TensorView take(const std::string& name, const std::vector<int64_t>& shape);

  std::vector<std::string> names() const;         // sorted
  std::vector<std::string> unused_names() const;  // sorted: never taken
  int64_t total_bytes() const;                    // of all tensors
  const std::string& folder() const { return folder_; }
  // "F16" -> number of tensors of that type, for inspect.
  std::map<std::string, int64_t> dtype_counts() const;

 private:
  WeightStore() = default;

  std::string folder_;
  std::vector<std::unique_ptr<SafetensorsFile>> files_;
  struct Place {
    const SafetensorsFile* file;
    const SafetensorsEntry* entry;
  };
  std::map<std::string, Place> places_;
  std::set<std::string> used_;
};

}  // namespace sepllm
