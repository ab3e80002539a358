#include "base/line_file.h"

#include <fcntl.h>
#include <sys/types.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <ios>
#include <string>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "base/file.h"
#include "base/sign_of_life.h"

namespace sepllm {

LineFile::LineFile(const std::string& path) : path_(path), begun_(false), made_(!file_exists(path)) {
  fd_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  check(fd_ >= 0);
}

LineFile::LineFile(const std::string& path, int64_t keep)
    : path_(path), fd_(::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666)) {
  check(fd_ >= 0);
  if (!is_regular_file(path) || ::ftruncate(fd_, keep) == 0) return;
  const int code = errno;
  ::close(fd_);
  errno = code;
  check(false);
}

LineFile::~LineFile() {
  if (fd_ < 0) return;
  try {
    flush();
  } catch (const Error&) {  // a caller who needs to know calls close()
  }
  ::close(fd_);
  if (!begun_ && made_) ::unlink(path_.c_str());
}

void LineFile::begin() {
  if (begun_) return;
  check(!is_regular_file(path_) || ::ftruncate(fd_, 0) == 0);
  begun_ = true;
}

void LineFile::check(bool ok) const {
  if (ok) return;
  throw Error(ErrorCode::kIo, std::string("cannot write: ") + std::strerror(errno), {.file = path_});
}

void LineFile::write(std::string_view text) {
  constexpr size_t kMost = size_t{1} << 16;
  pending_ += text;
  if (pending_.size() >= kMost) flush();
}

void LineFile::flush() {
  if (!pending_.empty()) begin();
  std::string_view left = pending_;
  while (!left.empty()) {
    const ssize_t n = ::write(fd_, left.data(), left.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      const int code = errno;
      pending_.erase(0, pending_.size() - left.size());
      errno = code;
      check(false);
    }
    left.remove_prefix(static_cast<size_t>(n));
  }
  pending_.clear();
}

void LineFile::sync() {
  begin();
  flush();
  // Pipes and devices have no disk, which is not an error.
  check(::fsync(fd_) == 0 || errno == EINVAL || errno == EROFS || errno == ENOTSUP);
}

void LineFile::close() {
  begin();
  flush();
  check(::close(std::exchange(fd_, -1)) == 0);
}

int64_t bytes_of_lines(const std::string& path, FunctionRef<bool(const std::string& line)> keep) {
  int64_t bytes = 0;
  if (!is_regular_file(path)) return bytes;
  std::ifstream in(path, std::ios::binary);
  std::string line;
  while (std::getline(in, line) && !in.eof() && keep(line)) {
    sign_of_life();
    bytes += static_cast<int64_t>(line.size()) + 1;
  }
  return bytes;
}

}  // namespace sepllm
