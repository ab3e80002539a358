// safetensors files: read through a map with every check that hostile input needs, written by our own code
// for fixtures and exports.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/json.h"

namespace sepllm {

// One tensor as the header declares it; `data` points into the map.
struct SafetensorsEntry {
  std::string dtype;  // "F32", "F16", "BF16", "I64", "U8", "BOOL", ...: any that the format knows
  std::vector<int64_t> shape;
  const char* data = nullptr;
  int64_t bytes = 0;
};

class SafetensorsFile {
 public:
  // Maps and checks the whole header. Error (kBadFile) naming the tensor and byte for every fault of the
  // format.
  explicit SafetensorsFile(const std::string& path);

  const std::string& path() const { return file_.path(); }
  const std::map<std::string, SafetensorsEntry>& entries() const { return entries_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }

 private:
  MappedFile file_;
  std::map<std::string, SafetensorsEntry> entries_;
  std::map<std::string, std::string> metadata_;
};

struct SafetensorsTensor {
  std::string name;
  std::string dtype;
  std::vector<int64_t> shape;
  const void* data;  // product(shape) x size of dtype bytes
};

// Writes a file that every reader of the format accepts (data aligned to 64 bytes by header padding),
// atomically. Error (kIo).
void write_safetensors(const std::string& path, const std::vector<SafetensorsTensor>& tensors,
                       const std::map<std::string, std::string>& metadata = {});

}  // namespace sepllm
