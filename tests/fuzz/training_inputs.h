// Used by the fuzz entries of training's files and by the test that replays their corpora. An Error is a
// valid answer; anything else that escapes is a finding.
#pragma once

#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/yaml.h"
#include "train/token_file.h"
#include "train/train_config.h"

namespace sepllm::test {

// True if the text is a YAML file of complete settings.
inline bool accepts_settings(std::string_view text) {
  try {
    const TrainConfig config = parse_train_config(parse_yaml(std::string(text), "fuzz.yaml"), "fuzz.yaml");
    const Json again = train_config_json(config);
    for (const int64_t step : {int64_t{1}, config.train_steps}) config.schedule().at(step);
    return again.is_object();
  } catch (const Error&) {
    return false;
  }
}

// True if the bytes are an index of the 24 bytes of tokens next to it; then all of it has been read.
inline bool accepts_token_index(std::string_view bytes) {
  static const std::string prefix =
      (std::filesystem::temp_directory_path() / ("sepllm-fuzz-" + std::to_string(::getpid()))).string();
  const auto write = [](const std::string& path, std::string_view content) {
    std::FILE* file = std::fopen(path.c_str(), "wb");
    if (file == nullptr) return;
    if (!content.empty()) std::fwrite(content.data(), 1, content.size(), file);
    std::fclose(file);
  };
  write(prefix + ".bin", std::string_view("\1\0\2\0\3\0\4\0\5\0\6\0\7\0\1\0\2\0\3\0\4\0\5\0", 24));
  write(prefix + ".idx", bytes);
  bool good = false;
  try {
    const TokenFile file(prefix);
    std::vector<int32_t> all(static_cast<size_t>(file.n_tokens()));
    for (int64_t t = 0; t < file.n_tokens(); ++t) file.document_of(t);
    for (int64_t d = 0; d <= file.n_documents(); ++d) file.document_begin(d);
    file.read(0, all, INT32_MAX);
    good = true;
  } catch (const Error&) {
  }
  for (const char* ending : {".bin", ".idx"}) std::remove((prefix + ending).c_str());
  return good;
}

}  // namespace sepllm::test
