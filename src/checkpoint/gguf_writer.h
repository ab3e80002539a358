// Writes a GGUF file, version 3: metadata, then tensors one at a time, atomically.
#pragma once

#include <cstddef>
#include <cstdint>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "checkpoint/stored_tensor.h"

namespace sepllm {

// Metadata in the order in which they are added. A key that is added twice, or is no printable ASCII, is a
// bug of the caller.
class GgufFields {
 public:
  void text(const std::string& key, std::string_view value);
  void u32(const std::string& key, uint32_t value);
  void f32(const std::string& key, float value);
  void flag(const std::string& key, bool value);
  void texts(const std::string& key, const std::vector<std::string>& values);
  void i32s(const std::string& key, const std::vector<int32_t>& values);
  void f32s(const std::string& key, const std::vector<float>& values);
  void add(const GgufFields& others);

  bool has(const std::string& key) const { return keys_.count(key) != 0; }
  uint64_t count() const { return keys_.size(); }
  const std::string& bytes() const { return bytes_; }  // as the file has them

 private:
  void key(const std::string& key, uint32_t type);

  std::set<std::string> keys_;
  std::string bytes_;
};

class GgufWriter {
 public:
  // `name`, `shape` and `type` of the tensors count; their types must be ones that GGUF has, their rows whole
  // blocks. Error (kIo); (kInvalidArgument) for names that are too long for the format.
  GgufWriter(const std::string& path, const GgufFields& fields, std::vector<StoredTensor> tensors);

  const std::vector<StoredTensor>& order() const { return tensors_; }
  void write(const void* data);  // of the next tensor
  void commit();                 // after the last; without it nothing remains

 private:
  AtomicFile file_;
  std::vector<StoredTensor> tensors_;
  size_t next_ = 0;
};

// Whether GGUF has this type of elements.
bool gguf_has_type(DType type);

}  // namespace sepllm
