#include "base/build_info.h"

#include <cstddef>
#include <fstream>
#include <string>

namespace sepllm {

extern const char* const kBuildCommit;  // written by cmake/build_commit.cmake

std::string build_version() { return SEPLLM_VERSION; }

std::string build_commit() { return kBuildCommit; }

std::string system_value(const std::string& path, const std::string& key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    const size_t colon = line.find(':');
    if (colon == std::string::npos || line.compare(0, key.size(), key) != 0) continue;
    const size_t begin = line.find_first_not_of(" \t", colon + 1);
    return begin == std::string::npos ? "" : line.substr(begin);
  }
  return "";
}

std::string cpu_name() {
  const std::string name = system_value("/proc/cpuinfo", "model name");
  return name.empty() ? "unknown" : name;
}

}  // namespace sepllm
