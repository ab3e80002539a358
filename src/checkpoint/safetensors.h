// Reads and writes safetensors files: reading uses a map and makes every check that hostile input needs;
// writing is for fixtures and exports. The format: u64 LE header length, a JSON object {name: {dtype, shape,
// data_offsets}} padded with spaces, then the data, which the tensors cover without holes or overlaps.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "checkpoint/stored_tensor.h"

namespace sepllm {

struct SafetensorsContent {
  std::map<std::string, StoredTensor> entries;  // by name; any dtype that the format knows
  std::map<std::string, std::string> metadata;
};

// Checks a whole file given as bytes; the entries point into `bytes`. Every fault of the format is an Error
// (kBadFile) naming `file`, the tensor and what was expected.
SafetensorsContent parse_safetensors(std::string_view bytes, const std::string& file);

class SafetensorsFile {
 public:
  // Maps and checks the file. Error as for parse_safetensors() and MappedFile.
  explicit SafetensorsFile(const std::string& path);

  const std::string& path() const { return file_.path(); }
  const std::map<std::string, StoredTensor>& entries() const { return content_.entries; }
  const std::map<std::string, std::string>& metadata() const { return content_.metadata; }

 private:
  MappedFile file_;
  SafetensorsContent content_;
};

struct SafetensorsTensor {
  std::string name;
  std::string dtype;
  std::vector<int64_t> shape;
  const void* data;  // product(shape) elements of the dtype's size
};

// Writes a file that every reader of the format accepts, atomically and one tensor at a time. The data
// section starts at a multiple of 64 bytes (header padding), and tensors of wider elements come first, so
// each is aligned to its element. Error (kIo). A name given twice or an unknown dtype is a bug of the caller.
class SafetensorsWriter {
 public:
  // The `data` fields of the tensors are not used here.
  SafetensorsWriter(const std::string& path, std::vector<SafetensorsTensor> tensors,
                    const std::map<std::string, std::string>& metadata = {});

  // All tensors in the order in which write() expects their data.
  const std::vector<SafetensorsTensor>& order() const { return tensors_; }
  void write(const void* data);  // the data of the next tensor
  void commit();                 // after the last tensor; without it nothing remains

 private:
  AtomicFile file_;
  std::vector<SafetensorsTensor> tensors_;
  size_t next_ = 0;
};

// Writes a file from tensors that are all in memory.
void write_safetensors(const std::string& path, const std::vector<SafetensorsTensor>& tensors,
                       const std::map<std::string, std::string>& metadata = {});

}  // namespace sepllm
