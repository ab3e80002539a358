#include "base/output_place.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <iterator>
#include <string>
#include <system_error>
#include <vector>

#include "base/error.h"
#include "base/file.h"

namespace sepllm {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void fail(const std::string& path, const std::string& doing, int code) {
  throw Error(ErrorCode::kIo, doing + ": " + std::strerror(code), {.file = path});
}

// Checks that the file may be written without opening it: opening and closing a pipe would end it for its
// reader.
void check_writable_in_place(const std::string& path) {
  if (is_folder(path)) throw Error(ErrorCode::kIo, "is a folder, not a file", {.file = path});
  if (::access(path.c_str(), W_OK) != 0) fail(path, "cannot write", errno);
}

}  // namespace

OutputPlace::OutputPlace(const std::string& path, OutputKind kind) {
  if (path.empty()) return;
  try {
    make_parents(path);
    if (kind == OutputKind::kFolder) {
      const AtomicFolder probe(path);
    } else if (file_exists(path) && (kind == OutputKind::kGrowingFile || !is_regular_file(path))) {
      check_writable_in_place(path);
    } else {
      const AtomicFile probe(path);
    }
  } catch (...) {
    remove_empty();
    throw;
  }
}

OutputPlace::~OutputPlace() { remove_empty(); }

void OutputPlace::make_parents(const std::string& path) {
  std::string trimmed = path;
  while (trimmed.size() > 1 && trimmed.back() == '/') trimmed.pop_back();
  std::vector<std::string> missing;  // innermost first
  for (fs::path at = fs::path(trimmed).parent_path(); !at.empty() && !file_exists(at); at = at.parent_path())
    missing.push_back(at);
  for (; !missing.empty(); missing.pop_back()) {
    const std::string& folder = missing.back();
    if (::mkdir(folder.c_str(), 0777) == 0) {
      made_.push_back(folder);
    } else if (errno != EEXIST) {  // another process may have created it
      fail(path, "cannot make the folder " + folder, errno);
    }
  }
}

void OutputPlace::remove_empty() noexcept {
  for (; !made_.empty(); made_.pop_back()) ::rmdir(made_.back().c_str());
}

namespace {

bool same_file(const std::string& a, const std::string& b) {
  if (a.empty() || b.empty()) return false;
  if (file_exists(a) && !is_regular_file(a)) return false;
  std::error_code none;  // where a path cannot be followed, its text is compared
  return a == b || fs::weakly_canonical(a, none) == fs::weakly_canonical(b, none);
}

}  // namespace

void keep_apart(const std::vector<std::string>& outputs, const std::vector<std::string>& inputs) {
  for (auto output = outputs.begin(); output != outputs.end(); ++output) {
    const auto is_it = [&](const std::string& other) { return same_file(*output, other); };
    if (std::any_of(inputs.begin(), inputs.end(), is_it)) {
      throw Error(ErrorCode::kInvalidArgument, "the output would replace a file that is read",
                  {.file = *output, .hint = "give the output another name"});
    }
    if (std::any_of(std::next(output), outputs.end(), is_it)) {
      throw Error(ErrorCode::kInvalidArgument, "two outputs have the same name",
                  {.file = *output, .hint = "give each a name of its own"});
    }
  }
}

}  // namespace sepllm
