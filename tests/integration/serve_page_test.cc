// The server's page: what is sent for it, what a stream says of the cache, and the page in a real browser.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "model/random_model.h"
#include "tests/support/server_process.h"

namespace {

using sepllm::Json;
using sepllm::parse_json;
using sepllm::test::HttpAnswer;
using sepllm::test::ServerProcess;
using sepllm::test::TemporaryFolder;

class ServePage : public ::testing::Test {
 protected:
  ServePage() {
    sepllm::write_random_model(folder_.file("model"),
                               {.hidden_size = 32, .n_layers = 2, .max_positions = 100000});
    chat_ = folder_.write("chat.jinja",
                          "{% for m in messages %}{{ m.role ~ ':' ~ m.content ~ ';' }}{% endfor %}"
                          "{% if add_generation_prompt %}assistant:{% endif %}");
  }
  std::vector<std::string> options(const std::vector<std::string>& more = {}) const {
    std::vector<std::string> out = {"--served-name", "tiny", "--chat-format", chat_};
    out.insert(out.end(), more.begin(), more.end());
    return out;
  }

  TemporaryFolder folder_;
  std::string chat_;
};

TEST_F(ServePage, IsSentWithoutAKeyAndMayLoadNothingFromElsewhere) {
  const ServerProcess server(folder_.file("model"), options({"--api-key", "secret"}));
  const HttpAnswer page = server.get("/");
  EXPECT_EQ(page.status, 200);
  EXPECT_EQ(page.headers.at("content-type"), "text/html; charset=utf-8");
  EXPECT_TRUE(page.body.ends_with("</html>\n"));
  const std::string policy = page.headers.at("content-security-policy");
  EXPECT_TRUE(policy.starts_with("default-src 'none'")) << policy;
  EXPECT_NE(policy.find("connect-src 'self'"), std::string::npos) << policy;
  EXPECT_EQ(server.get("/v1/models").status, 401) << "the page is open, and nothing else";
}

TEST_F(ServePage, AStreamSaysWhatTheCacheHoldsIfAsked) {
  const ServerProcess server(folder_.file("model"), options());
  const int64_t n_new = 40;
  Json body = {{"prompt", "one. two. three. four. five."},
               {"max_tokens", n_new},
               {"temperature", 0},
               {"ignore_eos", true},
               {"stream", true},
               {"sepllm", {{"policy", "sep"}, {"window", 16}, {"init", 2}}}};
  EXPECT_EQ(server.post("/v1/completions", body).body.find("\"held\""), std::string::npos);
  body["stream_options"] = {{"include_cache", true}};
  const std::string text = server.post("/v1/completions", body).body;
  const size_t at = text.rfind("\"sepllm\":");
  ASSERT_NE(at, std::string::npos) << text;
  const size_t begin = text.rfind("data: ", at) + 6;
  const Json report = parse_json(text.substr(begin, text.find("\n\n", at) - begin), "the event")["sepllm"];
  const int64_t length = report["length"];
  EXPECT_GE(length, n_new) << "the prompt and the new tokens but the last one";
  EXPECT_EQ(report["held"][0], Json({0, 1, "initial"}));
  EXPECT_EQ(report["held"].back()[1], length - 1);
  EXPECT_EQ(report["held"].back()[2], "window");
  EXPECT_LT(report["kv"]["bytes"], report["kv"]["full_bytes"]);
}

TEST_F(ServePage, WorksInARealBrowser) {
  if (std::system("command -v python3 >/dev/null 2>&1") != 0) GTEST_SKIP() << "there is no python3";
  const ServerProcess server(folder_.file("model"), options({"--no-access-log"}));
  const std::string out = folder_.file("browser.txt");
  const std::string command = "python3 " SEPLLM_SOURCE_DIR "/tests/browser/page_test.py http://127.0.0.1:" +
                              std::to_string(server.port()) + "/ >" + out + " 2>&1";
  const int status = std::system(command.c_str());
  ASSERT_TRUE(WIFEXITED(status));
  const std::string said = sepllm::read_file(out);
  if (WEXITSTATUS(status) == 77) GTEST_SKIP() << said;
  EXPECT_EQ(WEXITSTATUS(status), 0) << said;
}

}  // namespace
