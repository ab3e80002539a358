// tokenizer.json under damage: every byte changed, every length cut, and the fuzzer's corpus replayed.
#include <gtest/gtest.h>

#include <filesystem>

#include "base/file.h"
#include "tests/fuzz/tokenizer_inputs.h"
#include "tests/support/support.h"

namespace sepllm::test {
namespace {

std::string corpus_folder(const char* name = "tokenizer_json") {
  return std::string(SEPLLM_SOURCE_DIR) + "/tests/fuzz/corpus/" + name;
}

size_t replay(const char* name, bool (*accepts)(std::string_view)) {
  size_t files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(corpus_folder(name))) {
    SCOPED_TRACE(entry.path());
    const bool valid = entry.path().filename().string().starts_with("valid_");
    EXPECT_EQ(accepts(read_file(entry.path())), valid);
    ++files;
  }
  return files;
}

TEST(TokenizerCorpus, IsReplayed) {
  EXPECT_GE(replay("tokenizer_json", try_tokenizer_json), 20u);
  EXPECT_GE(replay("tokenizer_config", try_tokenizer_config), 10u);
}

TEST(TokenizerCorpus, EveryChangedByteAndEveryCutOfTheFilesNextToIt) {
  for (const char* name : {"/valid_decoder", "/valid_names"}) {
    const std::string whole = read_file(corpus_folder("tokenizer_config") + name);
    size_t refused = 0;
    for (size_t at = 0; at < whole.size(); ++at) {
      refused += !try_tokenizer_config(std::string_view(whole).substr(0, at));
      for (const unsigned char change : {0x01, 0x10, 0x80}) {
        std::string damaged = whole;
        damaged[at] = static_cast<char>(static_cast<unsigned char>(damaged[at]) ^ change);
        refused += !try_tokenizer_config(damaged);
      }
    }
    EXPECT_GT(refused, whole.size());
  }
}

TEST(TokenizerCorpus, EveryTruncationIsAnError) {
  const std::string whole = read_file(corpus_folder() + "/valid_llama2.json");
  const size_t end = whole.rfind('}');
  for (size_t size = 0; size <= end; ++size) {
    EXPECT_FALSE(try_tokenizer_json(std::string_view(whole).substr(0, size))) << size;
  }
}

TEST(TokenizerCorpus, EveryChangedByteIsReadOrRefused) {
  for (const char* name : {"/valid_llama2.json", "/valid_falcon.json", "/valid_bert.json"}) {
    const std::string whole = read_file(corpus_folder() + name);
    size_t refused = 0;
    for (size_t at = 0; at < whole.size(); ++at) {
      for (const unsigned char change : {0x01, 0x10, 0x80, 0xFF}) {
        std::string damaged = whole;
        damaged[at] = static_cast<char>(static_cast<unsigned char>(damaged[at]) ^ change);
        refused += !try_tokenizer_json(damaged);
      }
    }
    EXPECT_GT(refused, 2 * whole.size());  // at least all that break UTF-8
  }
}

}  // namespace
}  // namespace sepllm::test
