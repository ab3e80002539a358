// Ctrl-C in `generate --json`, and SIGTERM anywhere, killed the program: the text was lost, and a
// half-written temporary file stayed next to --nll-out.
#include <csignal>
#include <cstdlib>
#include <filesystem>

#include "base/file.h"
#include "tests/support/cli.h"

namespace sepllm::test {
namespace {

class InterruptedGenerate : public RandomModelTest {
 protected:
  // Starts the program, sends the signal when `ready` (a condition of bash) holds, and expects exit code 0.
  static std::string interrupt(const std::string& command, const char* signal, const std::string& ready) {
    const std::string out = file("out"), code = file("code");
    std::filesystem::remove(file("err"));
    const std::string script = std::string(SEPLLM_BINARY) + " " + command + " --model " + model() + " > " +
                               out + " 2> " + file("err") + " & pid=$!\n" + "until " + ready +
                               " || ! kill -0 $pid; do sleep 0.05; done\n" + "kill -" + signal +
                               " $pid; wait $pid; echo $? > " + code + "\n";
    EXPECT_EQ(std::system(("bash " + write("interrupt.sh", script)).c_str()), 0);
    EXPECT_EQ(read_file(code), "0\n") << command << " " << signal;
    return read_file(out);
  }
};

// The warning at the model's position limit shows that tokens are coming.
TEST_F(InterruptedGenerate, TheJsonHasTheTextSoFar) {
  for (const char* signal : {"INT", "TERM"}) {
    const std::string out = interrupt("generate --json --policy sink --prompt a --ignore-eos -n 1000000000",
                                      signal, "[ -s " + file("err") + " ]");
    const Json result = parse_json(out, "standard output");
    EXPECT_EQ(result["finish_reason"], "cancelled");
    EXPECT_GT(result["ids"].size(), 500U);
  }
}

TEST_F(InterruptedGenerate, TerminatedScoringLeavesNoTemporaryFile) {
  std::string book = "Hello, world. How are you? ";
  while (book.size() < 4000000) book += book;
  std::filesystem::create_directory(file("results"));
  const std::string out =
      interrupt("score --json --policy sink --window 8 --text " + write("book.txt", book) + " --log " +
                    file("log") + " --nll-out " + file("results/nll"),
                "TERM", "[ -s " + file("log") + " ]");
  EXPECT_TRUE(parse_json(out, "standard output")["interrupted"].get<bool>());
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(file("results")))
    names.push_back(entry.path().filename());
  EXPECT_EQ(names, std::vector<std::string>{"nll"});
}

}  // namespace
}  // namespace sepllm::test
