// Reads files that may be compressed (gzip, zstd) in blocks of their uncompressed content.
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
  // The first bytes tell how the file is packed. Error as for FileReader, and (kBadFile) if the name says
  // that it is packed (.gz, .gzip, .zst, .zstd) but the content is not.
  explicit PackedFileReader(std::string path);
  ~PackedFileReader();
  PackedFileReader(const PackedFileReader&) = delete;
  PackedFileReader& operator=(const PackedFileReader&) = delete;

  // Appends up to n > 0 more bytes of the content to `out` and returns how many; 0 only at the end. Error
  // (kIo), and (kBadFile) naming the place in the file, for content that is cut off or damaged, and for
  // anything after a gzip member other than another one or zeros. Several members (gzip) or frames (zstd)
  // form one content.
  size_t append(std::string* out, size_t n);

  // Bytes read so far of the file as it lies on the disk.
  uint64_t bytes_read() const { return read_; }

 private:
  bool read_more();  // false at the end of the file

  std::string path_;
  FileReader file_;
  std::unique_ptr<Unpacker> unpacker_;  // null: the file is not packed
  std::string in_;                      // bytes that were read; from at_ on they are not yet unpacked
  size_t at_ = 0;
  uint64_t read_ = 0;
};

}  // namespace sepllm
