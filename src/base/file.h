// Files: whole reads, read-only maps, and writes that are there whole or not at all.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace sepllm {

// The bytes of a regular file or pipe. Error (kNotFound, kIo) if it is missing, a folder, not readable, or
// larger than `max_bytes`; of a pipe or device at most 3 GiB are taken.
std::string read_file(const std::string& path, uint64_t max_bytes = uint64_t{1} << 40);

// A file or pipe, read from its beginning in blocks.
class FileReader {
 public:
  explicit FileReader(std::string path);  // Error as read_file
  ~FileReader();
  FileReader(const FileReader&) = delete;
  FileReader& operator=(const FileReader&) = delete;
  // Up to n more bytes at the end of `out`; how many: 0 at the end of the file only. Error (kIo).
  size_t append(std::string* out, size_t n);

 private:
  std::string path_;
  int fd_ = -1;
};

bool is_regular_file(const std::string& path);  // or a link to one
bool file_exists(const std::string& path);      // any kind of entry
bool is_folder(const std::string& path);
std::string program_folder();  // of the program that runs; "" where the system does not say

// A read-only private map of a regular file. The size is taken once at open: a file that another process
// shrinks afterwards can raise SIGBUS, which no check of ours can prevent (docs/ARCHITECTURE.md, "Mapped
// files").
class MappedFile {
 public:
  explicit MappedFile(const std::string& path);  // Error as read_file; an empty file maps to an empty view
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::string& path() const { return path_; }
  std::string_view bytes() const { return {data_, size_}; }
  // These bytes of the map will not be read soon: their pages leave this process's memory (and come back from
  // the file if they are read after all).
  void forget(std::string_view part) const;

 private:
  std::string path_;
  const char* data_ = nullptr;
  size_t size_ = 0;
};

// Writes `path` by way of a temporary file beside it: write, fsync, rename, fsync of the folder. Without
// commit() nothing remains. A symbolic link stays, and the file behind it is replaced. Devices, pipes and
// descriptors (/dev/null, /dev/stdout, a process substitution) are no files to replace: they are written in
// place.
class AtomicFile {
 public:
  explicit AtomicFile(std::string path);  // Error (kIo) if it is a folder or its folder cannot be written
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(std::string_view bytes);  // Error (kIo), e.g. disk full; the target stays as it was
  void
  sync();  // what was written is on the disk: where several files belong together, before the first commit()
  void commit();

 private:
  std::string path_;
  std::string temporary_;
  int fd_ = -1;
  bool synced_ = false;
  int64_t written_ = 0, begun_ = 0;  // bytes; of them, those on their way to the disk
};

// Makes the folder `path` whole or not at all: files are written into path(), a folder beside it, which takes
// its name at commit(). Without commit() nothing remains. An empty folder may be there before, or, to be
// replaced, one with content.
class AtomicFolder {
 public:
  // `replace`: a folder with content may be there too, which commit() deletes when the new one has its name.
  // Error (kIo) where it cannot be made, (kInvalidArgument) where `path` is a file, or a folder with content
  // that is not to be replaced.
  explicit AtomicFolder(std::string path, bool replace = false);
  ~AtomicFolder();
  AtomicFolder(const AtomicFolder&) = delete;
  AtomicFolder& operator=(const AtomicFolder&) = delete;

  const std::string& path() const { return temporary_; }
  void commit();  // Error (kIo), e.g. somebody else has made the folder meanwhile

 private:
  std::string target_;
  std::string temporary_;  // empty: committed
  bool replace_;
};

// A folder that one process works in: what others get is an Error (kIo). The lock goes with the process,
// however it ends; where the file system knows no locks there is none.
class FolderLock {
 public:
  explicit FolderLock(const std::string& folder);
  ~FolderLock();
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

 private:
  int fd_ = -1;
};

// Whether a name is that of a temporary file or folder of AtomicFile or AtomicFolder for `target` (a name
// too): what is left where a process was killed.
bool is_temporary_of(const std::string& name, const std::string& target);

void write_file_atomically(const std::string& path, std::string_view bytes);

}  // namespace sepllm
