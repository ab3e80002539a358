// A place that a command will write to at its end, checked before the work: what cannot be written is said at
// once, and not after minutes.
#pragma once

#include <string>
#include <vector>

namespace sepllm {

enum class OutputKind {
  kFile,         // written whole, by way of a file beside it (AtomicFile)
  kGrowingFile,  // written as the work goes on (LineFile)
  kFolder        // a new one, or an empty one (AtomicFolder)
};

class OutputPlace {
 public:
  OutputPlace() = default;  // none
  // Makes the folders above `path` that are missing, and checks that there can be written; what is there
  // already stays as it is. An empty path is no output. Error (kIo, kNotFound; kInvalidArgument for a folder
  // that is not to be replaced) naming the path.
  explicit OutputPlace(const std::string& path, OutputKind kind = OutputKind::kFile);
  // Folders that were made and that are still empty go again.
  ~OutputPlace();
  OutputPlace(const OutputPlace&) = delete;
  OutputPlace& operator=(const OutputPlace&) = delete;

 private:
  void make_parents(const std::string& path);
  void remove_empty() noexcept;

  std::vector<std::string> made_;  // folders, the outermost first
};

}  // namespace sepllm
