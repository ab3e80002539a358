// Chat templates under damage: every byte changed, every length cut, and the fuzzer's corpus replayed.
#include <gtest/gtest.h>

#include <filesystem>

#include "base/file.h"
#include "tests/fuzz/chat_template_inputs.h"

namespace sepllm::test {
namespace {

std::string folder_of_templates() { return std::string(SEPLLM_SOURCE_DIR) + "/tests/golden/chat_templates"; }

TEST(ChatTemplateCorpus, IsReplayed) {
  const std::string corpus = std::string(SEPLLM_SOURCE_DIR) + "/tests/fuzz/corpus/chat_template";
  size_t files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(corpus)) {
    SCOPED_TRACE(entry.path());
    const bool valid = entry.path().filename().string().starts_with("valid_");
    EXPECT_EQ(try_chat_template(read_file(entry.path())), valid);
    ++files;
  }
  EXPECT_GE(files, 8u);
}

TEST(ChatTemplateCorpus, EveryTruncationIsRenderedOrRefused) {
  for (const char* name : {"/qwen3.jinja", "/llama31.jinja", "/gemma3.jinja"}) {
    const std::string whole = read_file(folder_of_templates() + name);
    for (size_t size = 0; size <= whole.size(); ++size)
      try_chat_template(std::string_view(whole).substr(0, size));
  }
}

TEST(ChatTemplateCorpus, EveryChangedByteIsRenderedOrRefused) {
  for (const char* name : {"/mistral.jinja", "/falcon.jinja"}) {
    const std::string whole = read_file(folder_of_templates() + name);
    size_t refused = 0;
    for (size_t at = 0; at < whole.size(); ++at) {
      for (const unsigned char change : {0x01, 0x10, 0x80}) {
        std::string damaged = whole;
        damaged[at] = static_cast<char>(static_cast<unsigned char>(damaged[at]) ^ change);
        refused += !try_chat_template(damaged);
      }
    }
    EXPECT_GT(refused, whole.size());  // at least all that break UTF-8
  }
}

}  // namespace
}  // namespace sepllm::test
