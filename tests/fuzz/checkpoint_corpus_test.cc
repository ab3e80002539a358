// Replays the corpora of the fuzz entries for checkpoint files, those of training, and requests to the
// server: those named valid_* must be accepted, those named bad_* refused.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <vector>

#include "base/file.h"
#include "tests/fuzz/checkpoint_inputs.h"
#include "tests/fuzz/request_inputs.h"
#include "tests/fuzz/training_inputs.h"

namespace sepllm {
namespace {

void replay(const std::string& corpus, bool (*accepts)(std::string_view)) {
  int n_valid = 0;
  int n_bad = 0;
  const std::string folder = std::string(SEPLLM_SOURCE_DIR) + "/tests/fuzz/corpus/" + corpus;
  for (const auto& file : std::filesystem::directory_iterator(folder)) {
    const std::string name = file.path().filename();
    const std::string content = read_file(file.path());
    const std::vector<char> exact(content.begin(), content.end());  // a sanitizer sees reads beyond the end
    const bool accepted = accepts({exact.data(), exact.size()});
    if (name.starts_with("valid_")) {
      ++n_valid;
      EXPECT_TRUE(accepted) << name;
    } else if (name.starts_with("bad_")) {
      ++n_bad;
      EXPECT_FALSE(accepted) << name;
    }
  }
  EXPECT_GE(n_valid, 4) << "the corpus has lost its files";
  EXPECT_GE(n_bad, 4) << "the corpus has lost its files";
}

TEST(FuzzCorpus, Safetensors) { replay("safetensors", test::accepts_safetensors); }
TEST(FuzzCorpus, Gguf) { replay("gguf", test::accepts_gguf); }
// Those that are whole models.
TEST(FuzzCorpus, GgufModels) {
  for (const char* name : {"valid_model_bpe", "valid_model_sentencepiece"}) {
    const std::string path = std::string(SEPLLM_SOURCE_DIR) + "/tests/fuzz/corpus/gguf/" + name;
    EXPECT_TRUE(test::accepts_gguf_model(read_file(path))) << name;
  }
}
TEST(FuzzCorpus, Config) { replay("config", test::accepts_config); }
TEST(FuzzCorpus, Settings) { replay("settings", test::accepts_settings); }
TEST(FuzzCorpus, Request) { replay("request", test::accepts_request); }
TEST(FuzzCorpus, TokenIndex) { replay("token_index", test::accepts_token_index); }

}  // namespace
}  // namespace sepllm
