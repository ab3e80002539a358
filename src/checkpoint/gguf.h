// GGUF files, versions 2 and 3, little-endian: read through a map with every check that hostile input needs.
// Format (ggml's docs/gguf.md): "GGUF", u32 version, u64 tensors, u64 keys; the keys with their values; of
// each tensor its name, sizes, type and offset; then, from the next multiple of the alignment on, the data.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "base/file.h"
#include "checkpoint/gguf_metadata.h"
#include "checkpoint/stored_tensor.h"

namespace sepllm {

struct GgufContent {
  uint32_t version = 0;
  uint64_t alignment = 0;
  GgufMetadata metadata{};
  // By name. Shapes as elsewhere, the size of a row last (in the file it comes first); types that are not
  // ours are there, too.
  std::map<std::string, StoredTensor> entries{};
};

// Checks a whole file given as bytes; the content points into `bytes`. Error (kBadFile) naming `file`, the
// key or tensor and what was expected for every fault of the format; (kUnsupported) for another version or
// order of bytes. Memory is taken for what the bytes hold, whatever they claim.
GgufContent parse_gguf(std::string_view bytes, const std::string& file);

// Whether there is a GGUF file of this name, told by its first bytes.
bool is_gguf_file(const std::string& path);

class GgufFile {
 public:
  // Maps and checks the file. Error as for parse_gguf() and MappedFile.
  explicit GgufFile(const std::string& path);

  const GgufMetadata& metadata() const { return content_.metadata; }

 private:
  MappedFile file_;
  GgufContent content_;
};

}  // namespace sepllm
