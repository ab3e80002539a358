// Exceptions of the JSON library must not reach the user: its text is written by json_text (which handles
// bytes that are not UTF-8) and read by parse_json, and it is included in one place, where its exceptions
// become ours.
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "base/file.h"

namespace {

namespace fs = std::filesystem;

std::vector<std::string> uses_of_the_library(const std::string& path, const std::string& source) {
  std::vector<std::string> found;
  for (const char* use : {".dump(", "Json::parse(", "Json::accept(", "Json::sax_parse(", "<nlohmann/"}) {
    const bool place = path.ends_with("base/json.cc") || path.ends_with("base/json_library.h");
    if (!place && source.find(use) != std::string::npos) found.push_back(path + ": " + use);
  }
  return found;
}

TEST(JsonUse, OnlyBaseCallsWhatThrows) {
  size_t sources = 0;
  for (const char* top : {"src", "apps", "bench"}) {
    const fs::path root = fs::path(SEPLLM_SOURCE_DIR) / top;
    for (const auto& entry : fs::recursive_directory_iterator(root)) {
      const std::string path = entry.path().string();
      const bool is_source = path.ends_with(".cc") || path.ends_with(".h");
      if (!is_source || path.ends_with("_test.cc")) continue;
      ++sources;
      for (const std::string& use : uses_of_the_library(path, sepllm::read_file(path))) ADD_FAILURE() << use;
    }
  }
  EXPECT_GT(sources, 200U);
  EXPECT_EQ(uses_of_the_library("a.cc", "x.dump(1)").size(), 1U);
}

}  // namespace
