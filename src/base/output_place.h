// A place that a command will write to at its end. It is checked before the work begins, so that an output
// that cannot be written is reported at once, and not after minutes.
#pragma once

#include <string>
#include <vector>

namespace sepllm {

enum class OutputKind {
  kFile,         // written as a whole, by way of a file next to it (AtomicFile)
  kGrowingFile,  // written during the work (LineFile)
  kFolder        // a new one, or an empty one (AtomicFolder)
};

class OutputPlace {
 public:
  OutputPlace() = default;  // no output
  // Creates the missing folders above `path`, and checks that the place can be written; existing content
  // stays as it is. An empty path means no output. Error (kIo, kNotFound; kInvalidArgument for a folder that
  // is not to be replaced) naming the path.
  explicit OutputPlace(const std::string& path, OutputKind kind = OutputKind::kFile);
  // Removes the folders that were created here and are still empty.
  ~OutputPlace();
  OutputPlace(const OutputPlace&) = delete;
  OutputPlace& operator=(const OutputPlace&) = delete;

 private:
  void make_parents(const std::string& path);
  void remove_empty() noexcept;

  std::vector<std::string> made_;  // folders, outermost first
};

// Error (kInvalidArgument) if one of the outputs is the same file as another one, or as one of the inputs,
// which it would replace. Empty paths mean no file; devices, such as /dev/stdout, may occur several times.
void keep_apart(const std::vector<std::string>& outputs, const std::vector<std::string>& inputs);

}  // namespace sepllm
