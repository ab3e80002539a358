// Every option that names a place to write: it is checked before the work, its folders are created, and a run
// that fails leaves what was there.
#include <filesystem>
#include <set>
#include <sstream>

#include "base/file.h"
#include "tests/support/train_run.h"

namespace sepllm::test {
namespace {

// One use of a command that writes; "OUT" stands for the place.
struct Use {
  Strings command;       // "inspect", "attention"
  std::string option;    // "out"
  Strings arguments;     // arguments with which it works
  Strings broken;        // arguments with which it fails, as late as possible before there is a result
  std::string suffix{};  // of the written file
  bool folder = false;
};

class Outputs : public TrainRun {
 protected:
  std::vector<Use> uses() const {
    const Strings scored = {"--model", model(), "--text", text_},
                  far = {"--model", model(), "--ids", far_ids_};
    const Strings few = {"--keys",          "60%", "--context",       "128",
                         "--search-tokens", "128", "--report-tokens", "128"};
    const Strings tuned = Strings{"--model", model(), "--text", long_} + few,
                  untuned = Strings{"--model", model(), "--text", empty_} + few;
    const Strings page = {"--out", in("page.html")};  // else it is written to the working folder
    const Strings bpe = {"--train-tokenizer", "bpe", "--vocab-size", "300"};
    return {
        {{"score"}, "nll-out", scored, far},
        {{"score"}, "log", scored, far},
        {{"score"}, "state", scored + Strings{"--policy", "sink-stream"}, far},
        {{"demo"}, "out", scored, {"--model", model(), "--text", empty_}},
        {{"inspect", "attention"}, "out", scored, scored + Strings{"--layers", "99"}},
        {{"report"}, "out", {in("run")}, {in("none")}},
        {{"export"}, "out", {"--run", in("run")}, {"--run", in("none")}, "", true},
        {{"tune"}, "out", tuned, untuned},
        {{"tune"}, "policy-out", tuned + page, untuned + page},
        {{"quantize"},
         "out",
         {"--model", model(), "--type", "q8_0"},
         {"--model", in("none"), "--type", "q8_0"},
         "",
         true},
        {{"prepare"}, "out", {"--tokenizer", model(), text_}, {"--tokenizer", model(), empty_}, ".bin"},
        {{"prepare"}, "out", bpe + Strings{text_}, bpe + Strings{empty_}, "", true},
    };
  }
  static Strings call(const Use& use, const Strings& arguments, const std::string& place) {
    return use.command + arguments + Strings{"--" + use.option, place};
  }
  void SetUp() override {
    TrainRun::SetUp();
    text_ = write("text.txt", "Hello, world. This is a text of some length, and it ends. Here, or there?");
    empty_ = write("empty.txt", "");
    std::string text;
    for (int i = 0; i < 40; ++i) text += read_file(text_);
    long_ = write("long.txt", text);
    far_ids_ = write("far.ids", "7 8 9999");
    ASSERT_EQ(run_sepllm(train("run", {"--set", "train_steps=1"})).exit_code, 0);
  }
  std::string text_, empty_, long_, far_ids_;
};

TEST_F(Outputs, AreCheckedBeforeTheWork) {
  const std::string plain = write("plain", "x");
  for (const Use& use : uses()) {
    SCOPED_TRACE(use.command.front() + " --" + use.option);
    // Other faults, which would be found first when the model, the run or the text is read, are not reported.
    for (const Strings& arguments : {use.arguments, use.broken}) {
      expect_failure(call(use, arguments, plain + "/x"), {plain + "/x"});
      expect_failure(call(use, arguments, "/proc/none/x"), {"/proc/none/x"});
    }
    EXPECT_EQ(read_file(plain), "x");
    if (!use.folder && use.suffix.empty()) expect_failure(call(use, use.broken, in("")), {"is a folder"});
  }
}

TEST_F(Outputs, MissingFoldersAreMade) {
  int n = 0;
  for (const Use& use : uses()) {
    SCOPED_TRACE(use.command.front() + " --" + use.option);
    const std::string above = in("new" + std::to_string(n++)), place = above + "/b/c";
    const ProgramResult failed = run_sepllm(call(use, use.broken, place));
    EXPECT_EQ(failed.exit_code, 1);
    EXPECT_FALSE(file_exists(above)) << "of a run that failed nothing remains";
    const ProgramResult result = run_sepllm(call(use, use.arguments, place));
    EXPECT_EQ(result.exit_code, 0) << result.err;
    EXPECT_TRUE(file_exists(place + use.suffix));
  }
}

TEST_F(Outputs, ARunThatFailsLeavesWhatWasThere) {
  for (const Use& use : uses()) {
    if (use.option == "state") continue;  // an existing state is continued, not overwritten
    SCOPED_TRACE(use.command.front() + " --" + use.option);
    const std::string place = in("old");
    if (use.folder) {
      std::filesystem::create_directory(place);
    } else {
      write_file_atomically(place + use.suffix, "old\n");
    }
    EXPECT_EQ(run_sepllm(call(use, use.broken, place)).exit_code, 1);
    if (use.folder) {
      EXPECT_TRUE(std::filesystem::is_empty(place));
    } else {
      EXPECT_EQ(read_file(place + use.suffix), "old\n");
    }
    std::filesystem::remove_all(place + use.suffix);
  }
}

// A new option for a place to write must be added to the list above.
TEST_F(Outputs, TheListIsComplete) {
  const std::set<std::string> places = {"out", "nll-out", "log", "state", "save"};
  std::set<std::pair<std::string, std::string>> documented, listed;
  std::istringstream lines(run_sepllm({"--help-markdown"}).out);
  std::string command;
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("## sepllm ")) command = line.substr(10);
    if (!line.starts_with("| `--")) continue;
    const size_t end = line.find_first_of(" `", 5);
    if (line[end] == '`') continue;  // a flag
    const std::string option = line.substr(5, end - 5);
    if (places.count(option) != 0 || option.ends_with("-out")) documented.emplace(command, option);
  }
  for (const Use& use : uses()) {
    std::string name = use.command.front();
    if (use.command.size() > 1) name += " " + use.command[1];
    listed.emplace(name, use.option);
  }
  EXPECT_EQ(documented, listed);
}

}  // namespace
}  // namespace sepllm::test
