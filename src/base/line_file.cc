#include "base/line_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>

#include "base/error.h"
#include "base/file.h"

namespace sepllm {

LineFile::LineFile(const std::string& path, int64_t keep) : path_(path), file_(nullptr) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (fd >= 0) file_ = ::fdopen(fd, "a");
  check(file_ != nullptr);
  if (!is_regular_file(path) || ::ftruncate(fd, keep) == 0) return;
  const int code = errno;
  std::fclose(file_);
  errno = code;
  check(false);
}

LineFile::~LineFile() {
  if (file_ != nullptr) std::fclose(file_);
}

void LineFile::check(bool ok) const {
  if (ok) return;
  throw Error(ErrorCode::kIo, std::string("cannot write: ") + std::strerror(errno), {.file = path_});
}

void LineFile::write(std::string_view text) {
  check(std::fwrite(text.data(), 1, text.size(), file_) == text.size());
}

void LineFile::flush() { check(std::fflush(file_) == 0); }

void LineFile::sync() {
  flush();
  // (Pipes and devices have no disk.)
  check(::fsync(::fileno(file_)) == 0 || errno == EINVAL || errno == EROFS || errno == ENOTSUP);
}

void LineFile::close() {
  std::FILE* file = file_;
  file_ = nullptr;
  check(std::fclose(file) == 0);
}

int64_t bytes_of_lines(const std::string& path, FunctionRef<bool(const std::string& line)> keep) {
  int64_t bytes = 0;
  if (!is_regular_file(path)) return bytes;
  std::ifstream in(path, std::ios::binary);
  std::string line;
  while (std::getline(in, line) && !in.eof() && keep(line)) bytes += static_cast<int64_t>(line.size()) + 1;
  return bytes;
}

}  // namespace sepllm
