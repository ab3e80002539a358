// Chat templates from the command line: `chat`, `tokenize --messages`, `inspect`.
#include "base/file.h"
#include "tests/support/cli.h"

namespace sepllm::test {
namespace {

// A model whose own template adds a system message if none is given.
class CliChatTemplate : public RandomModelTest {
 protected:
  static void SetUpTestSuite() {
    RandomModelTest::SetUpTestSuite();
    write("model/chat_template.jinja", kTemplate);
  }
  static ProgramResult chat(const std::string& input, const std::vector<std::string>& more = {}) {
    return run_sepllm(with_model("chat", std::vector<std::string>{"--temp", "0", "-n", "4"} + more), input);
  }
  static std::string said(const std::vector<std::string>& more = {}) {
    return chat("Hello\n/prompt\n", more).err;
  }

  static constexpr const char* kTemplate =
      "{%- if messages[0].role != 'system' -%}{{ bos_token }}system: Be kind.\n{% endif %}\n"
      "{% for m in messages %}{{ m.role }}: {{ m.content }}{{ eos_token }}\n{% endfor %}\n"
      "{% if add_generation_prompt %}assistant:{% endif %}";
  static constexpr const char* kPrompt = "<|begin|>system: Be kind.\nuser: Hello<|end|>\nassistant:";
};

TEST_F(CliChatTemplate, PromptsAreTheTemplates) {
  EXPECT_NE(said().find(kPrompt), std::string::npos) << said();
  // One token per byte, except for two special ones.
  EXPECT_NE(
      said().find("last turn: " + std::to_string(std::string(kPrompt).size() - 9 - 7 + 2) + " tokens in"),
      std::string::npos)
      << said();
  const std::string own = said({"--system", "Be brief."});
  EXPECT_NE(own.find("system: Be brief.<|end|>\nuser: Hello<|end|>\nassistant:"), std::string::npos) << own;
  EXPECT_EQ(own.find("Be kind"), std::string::npos);
  EXPECT_NE(said({"--chat-format", "plain"}).find("User: Hello\nAssistant:"), std::string::npos);
  const std::string mine = write("mine.jinja", "Say: {{ messages[-1].content }}");
  EXPECT_NE(said({"--chat-format", mine}).find("Say: Hello"), std::string::npos);
}

TEST_F(CliChatTemplate, TokenizeShowsThePrompt) {
  const std::string talk = write("talk.json", R"([{"role": "user", "content": "Hi <|end|>"}])");
  const Json prompt = run_json(with_model("tokenize", {"--messages", talk}));
  EXPECT_EQ(prompt["text"], "<|begin|>system: Be kind.\nuser: Hi <|end|><|end|>\nassistant:");
  const std::vector<int32_t> ids = prompt["ids"];
  EXPECT_EQ(ids.front(), kByteTokenizerBos);
  // the template's token, not the user's
  EXPECT_EQ(std::count(ids.begin(), ids.end(), kByteTokenizerEos), 1);
  EXPECT_EQ(run_json(with_model("tokenize", {"--messages", talk, "--chat-format", "plain"}))["text"],
            "<|begin|>User: Hi <|end|>\nAssistant:");
  EXPECT_EQ(run_sepllm(with_model("tokenize", {"--messages", talk})).exit_code, 0);
  const auto refuse = [&](const std::string& content, const std::vector<std::string>& parts) {
    expect_failure(with_model("tokenize", {"--messages", write("bad.json", content)}), parts);
  };
  refuse("{}", {"bad.json", "a JSON list of messages"});
  refuse("[]", {"the last message"});
  refuse(R"([{"role": "tool", "content": "x"}])", {"[0].role", "system, user or assistant", "'tool'"});
  refuse(R"([{"role": "user"}])", {"content"});
  expect_failure(with_model("tokenize", {"--messages", talk, "--text", "x"}), {"several inputs"});
}

TEST_F(CliChatTemplate, WhatCannotBeRunIsSaidAtOnceWithTheWayOut) {
  const std::string folder = file("other");
  write_random_model(folder, {});
  const auto refuse = [&](const std::string& source, const std::vector<std::string>& parts) {
    write("other/chat_template.jinja", source);
    expect_failure({"chat", "--model", folder}, parts, "Hello\n");
    EXPECT_EQ(
        run_sepllm({"chat", "--model", folder, "--chat-format", "plain", "-n", "1"}, "Hello\n").exit_code, 0);
  };
  refuse("\n{% include 'x' %}", {"chat_template.jinja: line 2: ", "'include'", "--chat-format"});
  refuse("{{ messages | groupby('role') }}", {"line 1: ", "'groupby'", "--chat-format"});
  refuse("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
         {"steps", "--chat-format"});
  refuse("{{ 'x' * 1000000000 }}", {"bytes", "--chat-format"});
  refuse("{{ raise_exception('Not with me.') }}", {"line 1: ", "Not with me."});
  EXPECT_EQ(run_json(with_model("inspect"))["chat_format"], "template");
  write("other/chat_template.jinja", "{% if %}");
  const std::string told = run_json({"inspect", "--model", folder})["chat_format"];
  EXPECT_NE(told.find("line 1"), std::string::npos) << told;
}

}  // namespace
}  // namespace sepllm::test
