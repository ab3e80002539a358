// Files: reading whole files, read-only maps, and writes that succeed completely or change nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace sepllm {

// The bytes of a regular file or pipe. Error (kNotFound, kIo) if it is missing, a folder, not readable, or
// larger than `max_bytes`; at most 3 GiB are read from a pipe or device.
std::string read_file(const std::string& path, uint64_t max_bytes = uint64_t{1} << 40);

// A file or pipe that is read from its beginning in blocks.
class FileReader {
 public:
  explicit FileReader(std::string path);  // Error as for read_file
  ~FileReader();
  FileReader(const FileReader&) = delete;
  FileReader& operator=(const FileReader&) = delete;
  // Appends up to n more bytes to `out` and returns how many; 0 only at the end of the file. Error (kIo).
  size_t append(std::string* out, size_t n);

 private:
  std::string path_;
  int fd_ = -1;
};

bool is_regular_file(const std::string& path);  // or a link to one
bool file_exists(const std::string& path);      // any kind of entry
bool is_folder(const std::string& path);
std::string program_folder();  // of the running program; "" if the system does not tell

// A read-only private map of a regular file. The size is taken once, when the file is opened: if another
// process shrinks the file afterwards, SIGBUS may be raised, which no check of ours can prevent
// (docs/ARCHITECTURE.md, "Mapped files").
class MappedFile {
 public:
  explicit MappedFile(const std::string& path);  // Error as for read_file; an empty file gives an empty view
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::string& path() const { return path_; }
  std::string_view bytes() const { return {data_, size_}; }
  // Tells the system that these bytes will not be read soon. Their pages leave this process's memory, and are
  // read from the file again if they are needed after all.
  void forget(std::string_view part) const;

 private:
  std::string path_;
  const char* data_ = nullptr;
  size_t size_ = 0;
};

// Writes `path` by way of a temporary file next to it: write, fsync, rename, fsync of the folder. Without
// commit() nothing remains. A symbolic link stays, and the file that it points to is replaced. Devices, pipes
// and descriptors (/dev/null, /dev/stdout, a process substitution) cannot be replaced: they are written in
// place.
class AtomicFile {
 public:
  explicit AtomicFile(std::string path);  // Error (kIo) if it is a folder or its folder cannot be written
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(std::string_view bytes);  // Error (kIo), e.g. disk full; the target stays as it was
  void
  // Brings what was written to the disk. Where several files belong together, call it before the first
  // commit().
  sync();
  void commit();

 private:
  std::string path_;
  std::string temporary_;
  int fd_ = -1;
  bool synced_ = false;
  int64_t written_ = 0, begun_ = 0;  // bytes, and how many of them have been sent to the disk
};

// Creates the folder `path` completely or not at all: files are written into path(), a temporary folder next
// to it, which gets the final name at commit(). Without commit() nothing remains. The target may exist
// already if it is empty, or, if it is to be replaced, with content.
class AtomicFolder {
 public:
  // `replace`: a folder with content may exist; commit() deletes it after the new one has taken its name.
  // Error (kIo) if the folder cannot be created, (kInvalidArgument) if `path` is a file, or a folder with
  // content and `replace` is false.
  explicit AtomicFolder(std::string path, bool replace = false);
  ~AtomicFolder();
  AtomicFolder(const AtomicFolder&) = delete;
  AtomicFolder& operator=(const AtomicFolder&) = delete;

  const std::string& path() const { return temporary_; }
  void commit();  // Error (kIo), for example if another process has created the folder meanwhile

 private:
  std::string target_;
  std::string temporary_;  // empty: committed
  bool replace_;
};

// Locks a folder for one process: other processes get an Error (kIo). The lock ends with the process, however
// it ends. On a file system without locks there is no lock.
class FolderLock {
 public:
  explicit FolderLock(const std::string& folder);
  ~FolderLock();
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

 private:
  int fd_ = -1;
};

// Whether `name` is the name of a temporary file or folder of AtomicFile or AtomicFolder for `target` (also a
// name). Such files are left over if a process is killed.
bool is_temporary_of(const std::string& name, const std::string& target);

void write_file_atomically(const std::string& path, std::string_view bytes);

}  // namespace sepllm
