// A text file that grows line by line during a long run, and that a later run can continue.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/function_ref.h"

namespace sepllm {

class LineFile {
 public:
  // A new file. Error (kIo) if it cannot be written. The old content is lost only at the first flush() of a
  // line, sync() or close(): a run that fails before it has anything to write leaves the old file as it was,
  // or no file if there was none. (A pipe or device is written.)
  explicit LineFile(const std::string& path);
  // Continues after the first `keep` bytes of a file that may exist; the rest is cut. (A pipe or device just
  // gets the new lines.)
  LineFile(const std::string& path, int64_t keep);
  ~LineFile();
  LineFile(const LineFile&) = delete;
  LineFile& operator=(const LineFile&) = delete;

  void write(std::string_view text);
  void flush();  // to where other programs see it
  void sync();   // to the disk
  void close();  // flushes; Error (kIo) like the others

 private:
  void check(bool ok) const;
  void begin();  // from now on the old content is lost

  std::string path_;
  std::string pending_;  // not yet passed to the system
  int fd_ = -1;
  bool begun_ = true;  // false: the file still has its old content
  bool made_ = false;  // the file did not exist before
};

// The bytes of the lines at the beginning of a file for which `keep` returns true; 0 if there is no regular
// file. `keep` gets each line without its line end; a last line that does not end is not offered.
int64_t bytes_of_lines(const std::string& path, FunctionRef<bool(const std::string& line)> keep);

}  // namespace sepllm
