// Chat templates from the command line: `chat`, `tokenize --messages`, `inspect`.
#include <sys/resource.h>

#include <algorithm>
#include <filesystem>

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

TEST_F(CliChatTemplate, AModelWithoutATemplateIsSaidToHaveNone) {
  write_random_model(file("none"), {});
  const auto note = [](const std::string& folder, const std::vector<std::string>& more) {
    const ProgramResult result = run_sepllm(
        std::vector<std::string>{"chat", "--model", folder, "--temp", "0", "-n", "4"} + more, "Hello\n");
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return result.err.substr(0, result.err.find("last turn:"));
  };
  const std::string said = note(file("none"), {});
  EXPECT_EQ(std::count(said.begin(), said.end(), '\n'), 1) << said;
  for (const char* part :
       {"no chat template", "format plain", "--chat-format llama3|llama2|chatml|falcon|plain"}) {
    EXPECT_NE(said.find(part), std::string::npos) << said;
  }
  EXPECT_EQ(note(file("none"), {"--chat-format", "plain"}), "");
  EXPECT_EQ(note(model(), {}), "");
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
  refuse("{{ range(1000000) }}", {"range()", "100000 items", "--chat-format"});
  refuse("{{ raise_exception('Not with me.') }}", {"line 1: ", "Not with me."});
  EXPECT_EQ(run_json(with_model("inspect"))["chat_format"], "template");
  write("other/chat_template.jinja", "{% if %}");
  const std::string told = run_json({"inspect", "--model", folder})["chat_format"];
  EXPECT_NE(told.find("line 1"), std::string::npos) << told;
}

// Seconds of CPU time that child processes have taken so far.
double child_seconds() {
  rusage used{};
  getrusage(RUSAGE_CHILDREN, &used);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6;
  };
  return seconds(used.ru_utime) + seconds(used.ru_stime);
}

TEST_F(CliChatTemplate, WhatWouldTakeForEverOrFillTheMemoryEndsWithinASecond) {
  const std::string folder = file("bombs");
  write_random_model(folder, {});
  for (const char* source : {
           "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
           "{% for i in range(10 ** 15) %}{% endfor %}",
           "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
           "{% macro f(n) %}{{ f(n + 1) ~ f(n + 1) if n < 60 }}{% endmacro %}{{ f(0) }}",
           "{{ 'x' * 1000000000 }}",
           "{% for i in range(100000) %}{{ 'x' * 10000 }}{% endfor %}",
           "{% set n = namespace(x='x') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}{{ "
           "n.x }}",
           "{% set n = namespace(x=[1]) %}{% for i in range(60) %}{% set n.x = n.x + n.x %}{% endfor %}{{ "
           "n.x }}",
           "{% set n = namespace(x=[1]) %}{% for i in range(60) %}{% set n.x = [n.x, n.x] %}{% endfor %}{{ "
           "n.x }}",
           "{{ ('a' * 100000).replace('a', 'b' * 100000) }}",
           "{{ ('a' * 1000000).find('a' * 500000 ~ 'b') }}{{ 1 + 'x' }}",
           "{{ (' ' * 1000000).strip('a' * 1000000 ~ ' ') }}",
           "{{ (' ' * 50000000).strip() }}",
           "{% for i in range(99999) %}{{ ('a' * 1000000).count('aab') }}{% endfor %}",
           "{{ range(10 ** 9) | list | length }}",
           "{{ range(99999) | join('x' * 100000) }}",
           "{{ '%0999999999d' % 1 }}",
           "{{ 'x'.center(10 ** 9) }}",
           "{{ ('x\\n' * 1000000) | indent(1000) }}",
           "{{ 9 ** 99999999 }}",
           "{{ messages | tojson(indent=1000000000) }}",
           "{{ ('a' * 100000) | list | sort | unique | list }}",
       }) {
    SCOPED_TRACE(source);
    write("bombs/chat_template.jinja", source);
    const double before = child_seconds();
    expect_failure({"chat", "--model", folder, "--threads", "1"}, {"chat_template.jinja: line 1: "},
                   "Hello\n");
#ifdef __SANITIZE_ADDRESS__
    constexpr double kMost = 10.0;
#else
    constexpr double kMost = 1.0;
#endif
    EXPECT_LT(child_seconds() - before, kMost);
  }
}

// Lists of named templates, as Cohere's and Mistral's models have them.
TEST_F(CliChatTemplate, NamedTemplatesAreChosenByName) {
  const std::string folder = file("named");
  write_random_model(folder, {});
  const auto configure = [](const Json& templates) {
    write("named/tokenizer_config.json", Json({{"chat_template", templates}}).dump());
  };
  const auto prompt = [&](const std::vector<std::string>& more) {
    return run_sepllm(std::vector<std::string>{"chat", "--model", folder, "-n", "1"} + more,
                      "Hello\n/prompt\n")
        .err;
  };
  const Json rag = {{"name", "rag"}, {"template", "Found: {{ messages[-1].content }}"}};
  configure({{{"name", "default"}, {"template", "Say: {{ messages[-1].content }}"}}, rag});
  EXPECT_NE(prompt({}).find("Say: Hello"), std::string::npos) << prompt({});
  EXPECT_NE(prompt({"--chat-format", "rag"}).find("Found: Hello"), std::string::npos);
  expect_failure({"chat", "--model", folder, "--chat-format", "tool"}, {"'tool'", "plain, rag"}, "Hello\n");
  configure({rag, {{"name", "tool_use"}, {"template", "x"}}});
  expect_failure({"chat", "--model", folder}, {"several chat templates", "rag|tool_use"}, "Hello\n");
  // A file of its own comes first, and brings others with it.
  write("named/chat_template.jinja", "Own: {{ messages[-1].content }}");
  std::filesystem::create_directories(file("named/additional_chat_templates"));
  write("named/additional_chat_templates/short.jinja", "Short: {{ messages[-1].content }}");
  EXPECT_NE(prompt({}).find("Own: Hello"), std::string::npos) << prompt({});
  EXPECT_NE(prompt({"--chat-format", "short"}).find("Short: Hello"), std::string::npos);
}

}  // namespace
}  // namespace sepllm::test
