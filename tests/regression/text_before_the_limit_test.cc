// At the end of learned positions, `generate --json`, and a model without a tokenizer, printed only the
// error: the text so far was lost.
#include <cstdio>

#include "tests/support/cli.h"

namespace sepllm::test {
namespace {

class TextBeforeTheLimit : public ::testing::Test {
 protected:
  TextBeforeTheLimit() { write_random_model(folder_.path(), {.variant = "gpt2", .max_positions = 48}); }
  ProgramResult generate(const std::vector<std::string>& more) const {
    return run_sepllm(std::vector<std::string>{"generate", "--model", folder_.path(), "--prompt-ids", "1,2,3",
                                               "--ignore-eos", "-n", "200"} +
                      more);
  }
  static void expect_limit(const ProgramResult& result) {
    EXPECT_EQ(result.exit_code, 1);
    EXPECT_EQ(result.err.rfind("sepllm: error: ", 0), 0U) << result.err;
    EXPECT_NE(result.err.find("48 positions"), std::string::npos) << result.err;
    EXPECT_EQ(result.err.find('\n') + 1, result.err.size()) << result.err;
  }
  const TemporaryFolder folder_;
};

// 48 positions: there is room for the prompt's 3 and 45 new tokens; these give one more token, which has no
// position.
constexpr size_t kNewTokens = 46;

TEST_F(TextBeforeTheLimit, IsInTheJson) {
  const ProgramResult result = generate({"--json"});
  expect_limit(result);
  const Json json = parse_json(result.out, "standard output");
  EXPECT_EQ(json["ids"].size(), kNewTokens);
  EXPECT_EQ(json["finish_reason"], "error");
  EXPECT_EQ(json["text"].get<std::string>(), generate({}).out);
}

TEST_F(TextBeforeTheLimit, IsPrintedAsIdsWhereThereIsNoTokenizer) {
  for (const char* name : {"tokenizer.json", "tokenizer_config.json"})
    std::remove(folder_.file(name).c_str());
  const ProgramResult result = generate({});
  expect_limit(result);
  EXPECT_EQ(static_cast<size_t>(std::count(result.out.begin(), result.out.end(), ' ')), kNewTokens - 1);
}

TEST_F(TextBeforeTheLimit, StreamsGoOn) {
  const ProgramResult result =
      generate({"--json", "--policy", "sep-stream", "--seps", "4", "--window", "8", "--capacity", "24"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(parse_json(result.out, "standard output")["ids"].size(), 200U);
}

TEST_F(TextBeforeTheLimit, APromptBeyondItIsAnErrorOnly) {
  const ProgramResult result =
      run_sepllm({"generate", "--model", folder_.path(), "--prompt", std::string(60, 'a'), "--json"});
  expect_limit(result);
  EXPECT_EQ(result.out, "");
}

}  // namespace
}  // namespace sepllm::test
