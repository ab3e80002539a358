// The tensors of a checkpoint by name, whatever the number of files: model.safetensors,
// model.safetensors.index.json and its shards, or a GGUF file and its parts.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "checkpoint/gguf_metadata.h"
#include "checkpoint/stored_tensor.h"
#include "tensor/buffer.h"
#include "tensor/view.h"

namespace sepllm {

// Movable, not copyable; the views that it hands out live as long as it does (also after a move).
class WeightStore {
 public:
  WeightStore() = default;  // no tensors

  // `folder`: a HF folder; model.safetensors is preferred to an index, as HF does. Files may be links to
  // anywhere. Error for: no safetensors file (naming what is there instead, checkpoint/model_folder.h), an
  // index that names a shard outside the folder, an absent shard, a tensor in two shards.
  // Or a GGUF file, which its first bytes tell, or the first of its parts. Error as parse_gguf(), and for a
  // part that is missing or does not belong to the first.
  static WeightStore open(const std::string& path);
  // A GGUF file of one part whose bytes are in memory, where they stay. Error as parse_gguf(). (For fuzzing.)
  static WeightStore of_gguf(std::string_view bytes, const std::string& name);

  bool has(const std::string& name) const { return places_.count(name) != 0; }
  // A float tensor of exactly this shape; marks it as used. The data is aligned to its element: the map where
  // that is so, else (the format promises nothing) a copy which the store owns and counts. Error (kNotFound,
  // kBadFile, kUnsupported) naming file, tensor, expected and got for a missing tensor (with the nearest name
  // there is), another shape, or a dtype other than F32/F16/BF16/F64.
  TensorView take(const std::string& name, const std::vector<int64_t>& shape);
  // The same where it lies, aligned or not.
  TensorView take_unaligned(const std::string& name, const std::vector<int64_t>& shape);
  // A tensor of exactly this shape in any type of ours, floats or blocks, where it lies and not aligned;
  // marks it as used. Errors as take().
  const StoredTensor& take_stored(const std::string& name, const std::vector<int64_t>& shape);
  // Rows of blocks (kernels/formats/blocks.h) of a matrix [n_out, n_in], not aligned: of GGUF, or bytes of
  // dtype U8 and shape [n_out, row_bytes(type, n_in)]. Errors as take().
  const void* take_blocks(const std::string& name, DType type, int64_t n_out, int64_t n_in);
  // A tensor that nobody needs, if it is there: not among unused_names().
  void ignore(const std::string& name);
  // The tensor has been read and is not needed in memory any more.
  void forget(const std::string& name) const;
  // A tensor as it is stored. The name must be there.
  const StoredTensor& tensor(const std::string& name) const;

  std::vector<std::string> names() const;         // sorted
  std::vector<std::string> unused_names() const;  // sorted: never taken
  // Tensors that the index places in a shard that does not have them, sorted.
  const std::vector<std::string>& stale_names() const { return stale_; }
  int64_t total_bytes() const;                           // of all tensors
  int64_t copied_bytes() const;                          // of the copies made by take()
  const std::string& folder() const { return folder_; }  // or the GGUF file
  // The metadata of a GGUF file; null for a folder.
  const GgufMetadata* gguf() const { return gguf_.get(); }
  // "F16" -> number of tensors of that type, for inspect; "Q8_0" of those taken as blocks.
  std::map<std::string, int64_t> dtype_counts() const;

 private:
  void add_file(const std::string& path);
  // Adds the tensors of one GGUF file; returns its metadata.
  GgufMetadata add_gguf(const std::string& path);
  void open_gguf(const std::string& path);
  // `file`: null for bytes in memory.
  void add(const MappedFile* file, std::map<std::string, StoredTensor> entries);
  void open_shards(const std::string& index_path);
  void check_shape(const StoredTensor& tensor, const std::vector<int64_t>& shape) const;
  [[noreturn]] void fail_missing(const std::string& name) const;
  [[noreturn]] void fail_dtype(const std::string& name, const std::string& expected) const;
  // An Error that names it, where the tensors are those of a format of another program.
  void refuse_foreign_format(const std::string& name, const std::string& got) const;

  const StoredTensor& find(const std::string& name) const;  // Error (kNotFound) where it is missing

  std::string folder_;
  std::vector<std::unique_ptr<MappedFile>> files_;
  struct Place {
    const MappedFile* file;
    StoredTensor tensor;
  };
  std::map<std::string, Place> places_;
  std::map<std::string, std::string> used_;  // by name: the type as which it was taken
  std::vector<Buffer> copies_;
  std::vector<std::string> stale_;
  std::unique_ptr<GgufMetadata> gguf_;
};

}  // namespace sepllm
