#include "engine/sampling_defaults.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/error.h"
#include "tests/support/captured_log.h"
#include "tests/support/expect_error.h"
#include "tests/support/support.h"

namespace sepllm {
namespace {

// What a folder states whose generation_config.json has this content.
SamplingDefaults stated(const std::string& content) {
  const test::TemporaryFolder folder;
  folder.write("generation_config.json", content);
  return sampling_defaults(folder.path());
}

std::string text_of(const std::string& content) { return sampling_text(stated(content).settings); }

TEST(SamplingDefaults, WithoutAFileTheyAreTheProgramsOwn) {
  const std::string own = "temperature 0.8, top-k 40, top-p 0.95, min-p 0.05";
  const test::TemporaryFolder folder;
  const SamplingDefaults none = sampling_defaults(folder.path());
  EXPECT_EQ(sampling_text(none.settings), own);
  EXPECT_EQ(none.file, "");
  EXPECT_EQ(sampling_text(sampling_defaults("").settings), own);
  EXPECT_EQ(sampling_text(sampling_defaults(folder.write("a.gguf", "GGUF")).settings), own);
  // A file that only has other things.
  EXPECT_EQ(text_of(R"({"eos_token_id": [1, 2], "max_length": 20, "temperature": null})"), own);
  EXPECT_EQ(stated(R"({"eos_token_id": 1})").file, "");
}

TEST(SamplingDefaults, AFileThatStatesAnyIsReadAsTransformersReadsIt) {
  EXPECT_EQ(text_of(R"({"do_sample": true})"), "temperature 1, top-k 50");
  EXPECT_EQ(text_of(R"({"do_sample": true, "temperature": 0.6, "top_k": 20, "top_p": 0.95, "min_p": 0.1})"),
            "temperature 0.6, top-k 20, top-p 0.95, min-p 0.1");
  EXPECT_EQ(text_of(R"({"top_k": 0})"), "temperature 1");
  EXPECT_EQ(text_of(R"({"do_sample": false, "temperature": 0.6})"), "always the most likely token");
  EXPECT_EQ(text_of(R"({"do_sample": true, "temperature": 0})"), "always the most likely token");
  EXPECT_EQ(text_of(R"({"do_sample": true, "top_k": 20.0, "repetition_penalty": 1.05})"),
            "temperature 1, top-k 20, repeat penalty 1.05 over the whole context");
  EXPECT_EQ(text_of(R"({"repetition_penalty": 1.05})"),
            "temperature 0.8, top-k 40, top-p 0.95, min-p 0.05, repeat penalty 1.05 over the whole context");
  EXPECT_NE(stated(R"({"repetition_penalty": 1.05})").file.find("generation_config.json"), std::string::npos);
}

TEST(SamplingDefaults, WrongValuesNameFileAndKey) {
  const auto refuse = [](const std::string& content, const std::vector<std::string>& parts) {
    std::vector<std::string> all = {"generation_config.json"};
    all.insert(all.end(), parts.begin(), parts.end());
    SCOPED_TRACE(content);
    test::expect_error([&] { stated(content); }, ErrorCode::kBadFile, all);
  };
  refuse(R"({"temperature": -1})", {"temperature", "a number from 0 to 1000000", "-1"});
  refuse(R"({"temperature": "0.6"})", {"temperature", "number"});
  refuse(R"({"temperature": true})", {"temperature"});
  refuse(R"({"temperature": NaN})", {"temperature"});
  refuse(R"({"temperature": [0.6]})", {"temperature"});
  refuse(R"({"top_p": 1.5})", {"top_p", "from 0 to 1", "1.5"});
  refuse(R"({"min_p": -0.1})", {"min_p", "from 0 to 1"});
  refuse(R"({"top_k": -1})", {"top_k", "-1"});
  refuse(R"({"top_k": 2.5})", {"top_k", "2.5"});
  refuse(R"({"top_k": 1e300})", {"top_k"});
  refuse(R"({"repetition_penalty": 0})", {"repetition_penalty", "0.01"});
  refuse(R"({"do_sample": "yes"})", {"do_sample", "true or false"});
  refuse("[]", {"object"});
  refuse("{", {});
}

TEST(SamplingDefaults, OneWarningNamesWhatIsNotSupported) {
  test::CapturedLog log;
  stated(R"({"do_sample": true, "num_beams": 1, "typical_p": 1.0, "no_repeat_ngram_size": 0, "top_h": null,
             "suppress_tokens": [], "guidance_scale": 1, "max_length": 20})");
  EXPECT_EQ(log.lines().size(), 0U);
  stated(R"({"num_beams": 4, "no_repeat_ngram_size": 3, "bad_words_ids": [[1]]})");
  ASSERT_EQ(log.lines().size(), 1U);
  for (const char* part : {"generation_config.json", "num_beams, no_repeat_ngram_size, bad_words_ids"}) {
    EXPECT_NE(log.lines()[0].find(part), std::string::npos) << log.lines()[0];
  }
}

}  // namespace
}  // namespace sepllm
