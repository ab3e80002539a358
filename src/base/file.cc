#include "base/file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "base/error.h"
#include "base/sign_of_life.h"

namespace sepllm {
namespace {

// The limit for pipes and devices, which do not tell their size and may have no end (/dev/zero).
constexpr uint64_t kMaxStreamBytes = uint64_t{3} << 30;

[[noreturn]] void fail(const std::string& path, const std::string& doing) {
  const int code = errno;
  throw Error(code == ENOENT || code == ENOTDIR ? ErrorCode::kNotFound : ErrorCode::kIo,
              doing + ": " + std::strerror(code), {.file = path});
}

class Descriptor {
 public:
  Descriptor(const std::string& path, int flags) : fd_(::open(path.c_str(), flags | O_CLOEXEC)) {
    if (fd_ < 0) fail(path, "cannot open");
  }
  ~Descriptor() { ::close(fd_); }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

struct stat status_of(int fd, const std::string& path) {
  struct stat st {};
  if (::fstat(fd, &st) != 0) fail(path, "cannot read status");
  if (S_ISDIR(st.st_mode)) throw Error(ErrorCode::kIo, "is a folder, not a file", {.file = path});
  return st;
}

// Devices, pipes and open descriptors (/dev/stdout) cannot be replaced, so they are written in place. A
// rename over /dev/null would destroy it for the whole machine.
bool is_written_in_place(const std::string& path) {
  for (const char* descriptors : {"/dev/fd/", "/dev/std", "/proc/"}) {
    if (path.rfind(descriptors, 0) == 0) return true;
  }
  struct stat st {};
  return ::stat(path.c_str(), &st) == 0 && !S_ISREG(st.st_mode);
}

// The file that a symbolic link points to, because the link itself must stay.
std::string target_of(const std::string& path) {
  struct stat st {};
  if (::lstat(path.c_str(), &st) != 0 || !S_ISLNK(st.st_mode)) return path;
  const std::unique_ptr<char, decltype(&std::free)> real(::realpath(path.c_str(), nullptr), &std::free);
  return real ? std::string(real.get()) : path;
}

constexpr const char* kTemporary = ".tmp.";

// A name that nobody else uses at the moment.
std::string temporary_name(const std::string& path) {
  static std::atomic<unsigned> counter{0};
  return path + kTemporary + std::to_string(::getpid()) + "." + std::to_string(counter++);
}

std::string folder_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

}  // namespace

std::string read_file(const std::string& path, uint64_t max_bytes) {
  const Descriptor file(path, O_RDONLY);
  const struct stat st = status_of(file.get(), path);
  if (!S_ISREG(st.st_mode)) max_bytes = std::min(max_bytes, kMaxStreamBytes);
  const auto too_large = [&] {
    return Error(ErrorCode::kOutOfRange, "file too large",
                 {.file = path, .expected = "at most " + std::to_string(max_bytes) + " bytes"});
  };
  if (S_ISREG(st.st_mode) && static_cast<uint64_t>(st.st_size) > max_bytes) throw too_large();
  std::string out;
  if (S_ISREG(st.st_mode)) out.reserve(static_cast<size_t>(st.st_size));
  std::string block(1 << 16, '\0');
  for (;;) {
    const ssize_t n = ::read(file.get(), block.data(), block.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail(path, "cannot read");
    if (n == 0) return out;
    sign_of_life();
    if (out.size() + static_cast<size_t>(n) > max_bytes) throw too_large();
    out.append(block.data(), static_cast<size_t>(n));
  }
}

FileReader::FileReader(std::string path)
    : path_(std::move(path)), fd_(::open(path_.c_str(), O_RDONLY | O_CLOEXEC)) {
  if (fd_ < 0) fail(path_, "cannot open");
  try {
    status_of(fd_, path_);
  } catch (...) {
    ::close(fd_);
    throw;
  }
}

FileReader::~FileReader() { ::close(fd_); }

size_t FileReader::append(std::string* out, size_t n) {
  const size_t before = out->size();
  out->resize(before + n);
  ssize_t got = 0;
  do {
    got = ::read(fd_, out->data() + before, n);
  } while (got < 0 && errno == EINTR);
  out->resize(before + static_cast<size_t>(std::max<ssize_t>(got, 0)));
  if (got < 0) fail(path_, "cannot read");
  return static_cast<size_t>(got);
}

bool is_regular_file(const std::string& path) {
  struct stat st {};
  return ::stat(path.c_str(), &st) == 0 && S_ISREG(st.st_mode);
}

bool file_exists(const std::string& path) {
  struct stat st {};
  return ::stat(path.c_str(), &st) == 0;
}

bool is_folder(const std::string& path) {
  struct stat st {};
  return ::stat(path.c_str(), &st) == 0 && S_ISDIR(st.st_mode);
}

std::string program_folder() {
  std::error_code code;
  return std::filesystem::read_symlink("/proc/self/exe", code).parent_path();
}

MappedFile::MappedFile(const std::string& path) : path_(path) {
  const Descriptor file(path, O_RDONLY);
  const struct stat st = status_of(file.get(), path);
  if (!S_ISREG(st.st_mode)) throw Error(ErrorCode::kIo, "not a regular file", {.file = path});
  size_ = static_cast<size_t>(st.st_size);
  if (size_ == 0) return;
  void* map = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file.get(), 0);
  if (map == MAP_FAILED) fail(path, "cannot map");
  data_ = static_cast<const char*>(map);
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<char*>(data_), size_);
}

void MappedFile::forget(std::string_view part) const {
  if (part.empty()) return;
  static const auto page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  const size_t begin = static_cast<size_t>(part.data() - data_) / page * page;
  const size_t end = static_cast<size_t>(part.data() - data_) + part.size();
  ::madvise(const_cast<char*>(data_) + begin, end - begin, MADV_DONTNEED);  // only a hint to the system
}

AtomicFile::AtomicFile(std::string path) : path_(std::move(path)) {
  if (is_folder(path_)) throw Error(ErrorCode::kIo, "is a folder, not a file", {.file = path_});
  if (is_written_in_place(path_)) {
    fd_ = ::open(path_.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
    if (fd_ < 0) fail(path_, "cannot write");
    return;
  }
  path_ = target_of(path_);
  temporary_ = temporary_name(path_);
  fd_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (fd_ < 0) fail(path_, "cannot write");
}

AtomicFile::~AtomicFile() {
  if (fd_ >= 0) {
    ::close(fd_);
    if (!temporary_.empty()) ::unlink(temporary_.c_str());
  }
}

void AtomicFile::write(std::string_view bytes) {
  constexpr size_t kPiece = size_t{4} << 20;
  constexpr int64_t kBehind = int64_t{64} << 20;
  synced_ = false;
  while (!bytes.empty()) {
    sign_of_life();
    const ssize_t n = ::write(fd_, bytes.data(), std::min(bytes.size(), kPiece));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail(path_, "cannot write");
    bytes.remove_prefix(static_cast<size_t>(n));
    written_ += n;
    // The bytes that are not yet on the disk stay bounded: otherwise the sync at the end could take minutes
    // without a heartbeat. (This is only a hint: a file system may not support it.)
    for (; written_ - begun_ >= kBehind; begun_ += kBehind) {
      if (begun_ > 0)
        ::sync_file_range(fd_, begun_ - kBehind, kBehind,
                          SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER);
      ::sync_file_range(fd_, begun_, kBehind, SYNC_FILE_RANGE_WRITE);
    }
  }
}

void AtomicFile::sync() {
  if (synced_ || temporary_.empty()) return;
  if (::fsync(fd_) != 0) fail(path_, "cannot write to disk");
  synced_ = true;
}

void AtomicFile::commit() {
  if (temporary_.empty()) {
    if (::close(std::exchange(fd_, -1)) != 0) fail(path_, "cannot write");
    return;
  }
  sync();
  const int fd = fd_;
  fd_ = -1;
  if (::close(fd) != 0 || ::rename(temporary_.c_str(), path_.c_str()) != 0) {
    const int code = errno;
    ::unlink(temporary_.c_str());
    errno = code;
    fail(path_, "cannot replace");
  }
  const Descriptor folder(folder_of(path_), O_RDONLY | O_DIRECTORY);
  // some file systems do not support this for folders; the file itself is already safe
  ::fsync(folder.get());
}

AtomicFolder::AtomicFolder(std::string path, bool replace) : target_(std::move(path)), replace_(replace) {
  while (target_.size() > 1 && target_.back() == '/') target_.pop_back();
  target_ = target_of(target_);
  std::error_code code;
  const bool may_be = is_folder(target_) && (replace_ || std::filesystem::is_empty(target_, code));
  if (file_exists(target_) && !may_be) {
    throw Error(ErrorCode::kInvalidArgument, "already exists",
                {.file = target_, .expected = "a new folder, or an empty one"});
  }
  temporary_ = temporary_name(target_);
  if (::mkdir(temporary_.c_str(), 0777) != 0) {
    temporary_.clear();
    fail(target_, "cannot make the folder");
  }
}

AtomicFolder::~AtomicFolder() {
  std::error_code ignored;
  if (!temporary_.empty()) std::filesystem::remove_all(temporary_, ignored);
}

void AtomicFolder::commit() {
  std::string old;  // the name of the old content
  if (::rename(temporary_.c_str(), target_.c_str()) != 0) {
    if (!replace_ || (errno != ENOTEMPTY && errno != EEXIST)) fail(target_, "cannot make the folder");
    // Exchange the two names at once; if the file system cannot do that, rename one after the other.
    old = temporary_;
    if (::renameat2(AT_FDCWD, temporary_.c_str(), AT_FDCWD, target_.c_str(), RENAME_EXCHANGE) != 0) {
      old = temporary_name(target_);
      if (::rename(target_.c_str(), old.c_str()) != 0) fail(target_, "cannot replace the folder");
      if (::rename(temporary_.c_str(), target_.c_str()) != 0) {
        const int code = errno;
        ::rename(old.c_str(), target_.c_str());  // undo the first rename
        errno = code;
        fail(target_, "cannot replace the folder");
      }
    }
  }
  temporary_.clear();
  const Descriptor folder(folder_of(target_), O_RDONLY | O_DIRECTORY);
  ::fsync(folder.get());
  std::error_code ignored;
  if (!old.empty()) std::filesystem::remove_all(old, ignored);
}

FolderLock::FolderLock(const std::string& folder)
    : fd_(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
  if (fd_ < 0) fail(folder, "cannot open");
  if (::flock(fd_, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK) return;
  ::close(fd_);
  throw Error(ErrorCode::kIo, "another process is at work in this folder", {.file = folder});
}

FolderLock::~FolderLock() { ::close(fd_); }

bool is_temporary_of(const std::string& name, const std::string& target) {
  const std::string start = target + kTemporary;
  if (!name.starts_with(start)) return false;
  const std::string numbers = name.substr(start.size());  // PID.COUNTER
  const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
  const size_t dot = numbers.find('.');
  return dot != std::string::npos && dot > 0 && dot + 1 < numbers.size() &&
         std::all_of(numbers.begin(), numbers.begin() + static_cast<std::ptrdiff_t>(dot), is_digit) &&
         std::all_of(numbers.begin() + static_cast<std::ptrdiff_t>(dot) + 1, numbers.end(), is_digit);
}

void write_file_atomically(const std::string& path, std::string_view bytes) {
  AtomicFile file(path);
  file.write(bytes);
  file.commit();
}

}  // namespace sepllm
