// A text file that grows line by line while a long run goes on, and that a later run takes up again.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/function_ref.h"

namespace sepllm {

class LineFile {
 public:
  // A new file. Error (kIo) if it cannot be written. What was there is lost with the first flush() of a line,
  // with sync() or close(): a run that fails before it has something to write leaves it as it was, or no file
  // where there was none. (A pipe or device is written.)
  explicit LineFile(const std::string& path);
  // Goes on behind the first `keep` bytes of a file that may exist; the rest is cut. (A pipe or device just
  // gets what is new.)
  LineFile(const std::string& path, int64_t keep);
  ~LineFile();
  LineFile(const LineFile&) = delete;
  LineFile& operator=(const LineFile&) = delete;

  void write(std::string_view text);
  void flush();  // to where other programs see it
  void sync();   // to the disk
  void close();  // flushes; Error (kIo) as the others

 private:
  void check(bool ok) const;
  void begin();  // what was there is lost now

  std::string path_;
  std::string pending_;  // not with the system yet
  int fd_ = -1;
  bool begun_ = true;  // false: the file has still what was there before
  bool made_ = false;  // it was not there before
};

// Bytes of the whole lines at the beginning of a file that `keep` wants; 0 where there is no regular file.
// The line is without its end; a last line without an end is not offered.
int64_t bytes_of_lines(const std::string& path, FunctionRef<bool(const std::string& line)> keep);

}  // namespace sepllm
