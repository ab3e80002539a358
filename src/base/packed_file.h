// Files that may be compressed (gzip, zstd), read as what they hold, in blocks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "base/file.h"

namespace sepllm {

class Unpacker;

class PackedFileReader {
 public:
  // How a file is packed is told by its first bytes. Error as FileReader, and (kBadFile) where the name ends
  // says that it is packed (.gz, .gzip, .zst, .zstd) and the content is neither.
  explicit PackedFileReader(std::string path);
  ~PackedFileReader();
  PackedFileReader(const PackedFileReader&) = delete;
  PackedFileReader& operator=(const PackedFileReader&) = delete;

  // Up to n > 0 more bytes of the content at the end of `out`; how many: 0 at the end only. Error (kIo), and
  // (kBadFile) naming the place in the file for content that is cut off or damaged, and for anything behind a
  // gzip member but another one or zeros. Members (gzip) and frames (zstd) follow one another as one content.
  size_t append(std::string* out, size_t n);

  // Bytes taken of the file as it lies on the disk.
  uint64_t bytes_read() const { return read_; }

 private:
  bool read_more();  // false: the file is at its end

  std::string path_;
  FileReader file_;
  std::unique_ptr<Unpacker> unpacker_;  // none: the file is not packed
  std::string in_;                      // read and not yet unpacked, from at_ on
  size_t at_ = 0;
  uint64_t read_ = 0;
};

}  // namespace sepllm
