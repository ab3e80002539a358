// `sepllm score --state`: a stream that is interrupted anywhere continues with the same bits.
#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <random>
#include <sstream>

#include "base/file.h"
#include "tests/support/cli.h"
#include "tests/support/shell_run.h"

namespace sepllm::test {
namespace {

using Strings = std::vector<std::string>;

std::string make_text(size_t bytes) {
  static const Strings words = {"the", "sea", "was", "calm", "and",  "ships", "went", "home", "early",
                                "but", "one", "of",  "them", "sank", "in",    "a",    "storm"};
  std::mt19937 random(7);
  std::string out;
  while (out.size() < bytes) {
    out += words[random() % words.size()];
    const uint32_t end = random() % 12;
    out += end == 0 ? ".\n" : end == 1 ? ", " : " ";
  }
  return out;
}

class ScoreState : public RandomModelTest {
 protected:
  void SetUp() override {
    folder_ = file("run" + std::to_string(count_++));
    std::filesystem::create_directory(folder_);
    text_ = write("text.txt", make_text(6000));
  }
  std::string in(const std::string& name) const { return folder_ + "/" + name; }

  Strings score(const Strings& more) const {
    return with_model("score", Strings{"--text", text_, "--prefill-chunk", "64"} + more);
  }
  // With these options in place of those with the same names.
  static Strings with(Strings flags, const Strings& changed) {
    for (size_t k = 0; k < changed.size(); k += 2) {
      const auto at = std::find(flags.begin(), flags.end(), changed[k]);
      if (at == flags.end()) {
        flags = flags + Strings{changed[k], changed[k + 1]};
      } else {
        *(at + 1) = changed[k + 1];
      }
    }
    return flags;
  }
  static Strings stream() {
    return {"--policy", "sep-stream", "--seps", "16", "--window", "32", "--capacity", "96"};
  }
  Strings outputs(const std::string& name) const {
    return {"--state", in(name + ".state"), "--nll-out", in(name + ".nll"), "--log", in(name + ".log")};
  }

  // Fields that must not differ; the fields of time and of the process's memory are left out.
  static void expect_same_figures(const Json& a, const Json& b) {
    for (const char* key : {"tokens", "perplexity", "nll_mean", "policy", "kv"})
      EXPECT_EQ(a[key], b[key]) << key;
  }
  void expect_same_files(const std::string& a, const std::string& b) const {
    EXPECT_EQ(read_file(in(a + ".nll")), read_file(in(b + ".nll")));
    const auto lines = [&](const std::string& name) {
      std::istringstream log(read_file(in(name + ".log")));
      std::string line, out;
      while (std::getline(log, line)) {
        const Json entry = parse_json(line, name);
        for (const char* key : {"tokens", "perplexity", "perplexity_window", "kv_bytes"})
          out += entry[key].dump() + " ";
        out += "\n";
      }
      return out;
    };
    EXPECT_EQ(lines(a), lines(b));
  }

  int run(const std::string& before, const Strings& arguments) const {
    return ShellRun(folder_).run(before, arguments);
  }
  Json json_of_run() const { return parse_json(read_file(in("out")), "standard output"); }

  std::string folder_, text_;
  static inline int count_ = 0;
};

TEST_F(ScoreState, AStreamThatEndedGoesOnWithMoreTokensUnderEveryPolicy) {
  const std::vector<Strings> policies = {
      stream(),
      with(stream(), {"--kv", "bf16", "--seps", "unbounded", "--capacity", "128"}),
      stream() + Strings{"--positions", "original"},
      {"--policy", "sep", "--window", "32", "--layer-window", "0=full"},
      {"--policy", "sink-stream", "--capacity", "90"},
      {"--policy", "full"}};
  for (size_t k = 0; k < policies.size(); ++k) {
    SCOPED_TRACE(policies[k][1] + " " + policies[k].back());
    const std::string name = "broken" + std::to_string(k), other = "whole" + std::to_string(k);
    // 2 to 63 tokens are less than a chunk; the second 2500 adds nothing.
    for (const char* tokens : {"2", "63", "1000", "1001", "2500", "2500", "4000"}) {
      const Json broken = run_json(score(policies[k] + outputs(name) + Strings{"--tokens", tokens}));
      const Json whole =
          run_json(score(policies[k] + Strings{"--tokens", tokens, "--nll-out", in(other + ".nll"), "--log",
                                               in(other + ".log")}));
      expect_same_figures(broken, whole);
      expect_same_files(name, other);
    }
  }
}

// From a pipe, whose length is not known, a cache grows as the stream comes: after an interruption in the
// same way as without one.
TEST_F(ScoreState, AStreamOfUnknownLengthReservesWhatItWouldHaveReserved) {
  const std::string text = read_file(text_);
  const std::vector<Strings> policies = {{"--policy", "full"},
                                         {"--policy", "fixed", "--window", "32"},
                                         {"--policy", "sep", "--window", "32", "--kv", "q8"},
                                         {"--policy", "sink-stream", "--capacity", "90"},
                                         with(stream(), {"--seps", "unbounded", "--capacity", "128"})};
  const auto run = [&](const Strings& arguments) {
    const ProgramResult result = run_sepllm(
        with_model("score", Strings{"--text", "/dev/stdin", "--prefill-chunk", "64", "--json"} + arguments),
        text);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return parse_json(result.out, "standard output");
  };
  for (size_t k = 0; k < policies.size(); ++k) {
    SCOPED_TRACE(policies[k][1]);
    const std::string state = in("pipe" + std::to_string(k));
    for (const char* tokens : {"700", "1500", "2600"}) {
      const Strings some = policies[k] + Strings{"--tokens", tokens};
      const Json broken = run(some + Strings{"--state", state});
      EXPECT_EQ(broken.contains("resumed_from"), std::string(tokens) != "700");
      expect_same_figures(broken, run(some));
    }
  }
}

// At every write, fsync and rename: the next run continues from the last intact state.
TEST_F(ScoreState, KilledAtAnyCallOfASave) {
  const Strings whole_flags = score(stream() + outputs("whole") + Strings{"--tokens", "2000", "--json"});
  ASSERT_EQ(run("", whole_flags), 0) << read_file(in("err"));
  const Json whole = json_of_run();
  const Strings flags =
      score(stream() + outputs("broken") + Strings{"--tokens", "2000", "--state-every", "600", "--json"});
  int kills = 0, resumed = 0;
  for (const char* call : {"write:%d:kill", "write:%d:half", "fsync:%d:kill", "rename:%d:kill"}) {
    for (int n = 1;; n += n < 8 ? 1 : 7) {
      SCOPED_TRACE(std::string(call) + " " + std::to_string(n));
      for (const char* name : {"broken.state", "broken.nll", "broken.log"}) std::filesystem::remove(in(name));
      std::string fault = call;
      fault.replace(fault.find("%d"), 2, std::to_string(n));
      const int code = run(ShellRun::with_fault(fault), flags);
      if (code == 0) break;  // there is no n-th call
      ASSERT_EQ(code, 128 + SIGKILL) << read_file(in("err"));
      ++kills;
      ASSERT_EQ(run("", flags), 0) << read_file(in("err"));
      resumed += json_of_run().contains("resumed_from") ? 1 : 0;
      expect_same_figures(json_of_run(), whole);
      expect_same_files("broken", "whole");
    }
  }
  EXPECT_GE(kills, 12);
  EXPECT_GE(resumed, 4);
  EXPECT_LT(resumed, kills);  // kills before the first state was complete
}

TEST_F(ScoreState, AStateThatCannotBeWrittenIsOneClearErrorAndTheOldOneStays) {
  const Strings flags = score(stream() + outputs("a") + Strings{"--state-every", "600"});
  ASSERT_EQ(run("", flags + Strings{"--tokens", "1000"}), 0) << read_file(in("err"));
  const std::string before = read_file(in("a.state"));
  for (const std::string& fault : {"write:1:" + std::to_string(ENOSPC), "fsync:3:" + std::to_string(EIO),
                                   "rename:1:" + std::to_string(EACCES)}) {
    SCOPED_TRACE(fault);
    EXPECT_EQ(run(ShellRun::with_fault(fault), flags + Strings{"--tokens", "2000"}), 1);
    const std::string err = read_file(in("err"));
    EXPECT_NE(err.find("sepllm: error: " + in("a.")), std::string::npos)
        << err;  // the state or a list next to it
    EXPECT_EQ(read_file(in("a.state")), before);
    size_t files = 0;
    for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(folder_)) ++files;
    EXPECT_EQ(files, 6U);  // state, nll, log, out, err, shell: no temporary file is left
  }
  const Json whole = run_json(score(stream() + Strings{"--tokens", "2000"}));
  expect_same_figures(run_json(flags + Strings{"--tokens", "2000"}), whole);
}

TEST_F(ScoreState, KilledAtRandomMomentsAgainAndAgain) {
  text_ = write("long.txt", make_text(80000));
  const Strings policy = {"--policy", "sink-stream", "--capacity", "24"};
  const auto began = std::chrono::steady_clock::now();
  const Json whole =
      run_json(score(policy + Strings{"--nll-out", in("whole.nll"), "--log", in("whole.log")}));
  const auto took =
      std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - began).count();
  const Strings flags = score(policy + outputs("broken") + Strings{"--state-every", "2000", "--json"});
  std::mt19937 random(11);
  int kills = 0;
  int64_t before = 0;
  for (;;) {
    // Parts of what the whole run took, so that a fast machine is interrupted often enough; longer and
    // longer, so that one that has become slow gets there too.
    const double share = 0.1 + 0.05 * kills + 0.2 * static_cast<double>(random() % 100) / 100.0;
    const int code =
        run("timeout -s KILL " + std::to_string(share * static_cast<double>(took) / 1000.0), flags);
    if (code == 0) break;
    ASSERT_EQ(code, 128 + SIGKILL) << read_file(in("err"));
    ++kills;
    if (!file_exists(in("broken.state"))) continue;
    const std::string bytes = read_file(in("broken.state")).substr(0, 200);
    const auto tokens = std::stoll(bytes.substr(bytes.find("\"tokens\":") + 9));
    EXPECT_GE(tokens, before);
    before = tokens;
  }
  EXPECT_GE(kills, 2);
  EXPECT_TRUE(json_of_run().contains("resumed_from"));
  expect_same_figures(json_of_run(), whole);
  expect_same_files("broken", "whole");
}

TEST_F(ScoreState, CtrlCSavesTheStateAndTheRunGoesOn) {
  text_ = write("long.txt", make_text(30000));
  const Strings policy = {"--policy", "sink-stream", "--capacity", "24"};
  const Strings flags = score(policy + outputs("a") + Strings{"--json"});
  std::string command = SEPLLM_BINARY;
  for (const std::string& flag : flags) command += " '" + flag + "'";
  const std::string script = command + " --state-every 2000 > " + in("out") + " & pid=$!\nuntil [ -s " +
                             in("a.state") + " ] || ! kill -0 $pid; do sleep 0.02; done\n" +
                             "kill -INT $pid; wait $pid\n";
  ASSERT_EQ(std::system(("bash " + write("interrupt.sh", script)).c_str()), 0);
  const Json stopped = json_of_run();
  EXPECT_TRUE(stopped["interrupted"].get<bool>());
  const int64_t tokens = stopped["tokens"].get<int64_t>();
  const Json going_on = run_json(score(policy + outputs("a")));
  EXPECT_EQ(going_on["resumed_from"].get<int64_t>(), tokens);
  expect_same_figures(going_on,
                      run_json(score(policy + Strings{"--nll-out", in("b.nll"), "--log", in("b.log")})));
  expect_same_files("a", "b");
}

TEST_F(ScoreState, WhatDoesNotBelongToTheStateIsRefusedAndNothingIsTouched) {
  const Strings flags = score(stream() + outputs("a") + Strings{"--tokens", "1000"});
  run_json(flags);
  const auto content = [&] {
    return read_file(in("a.state")) + read_file(in("a.nll")) + read_file(in("a.log"));
  };
  const std::string before = content();
  const auto refuse = [&](const Strings& arguments, const Strings& parts) {
    SCOPED_TRACE(parts.back());
    expect_failure(arguments, Strings{"a.state"} + parts);
    EXPECT_EQ(content(), before);
  };
  refuse(score(outputs("a") + Strings{"--policy", "sep"}), {"policy", "sep-stream"});
  refuse(with(flags, {"--window", "31"}), {"window", "32", "31"});
  refuse(with(flags, {"--kv", "f16"}), {"kv", "f16"});
  refuse(with(flags, {"--prefill-chunk", "65"}), {"prefill-chunk", "64", "65"});
  refuse(with(flags, {"--separators", "strings:s"}), {"separators"});
  refuse(with(flags, {"--attention-impl", "reference"}), {"attention-impl", "simd"});
  refuse(flags + Strings{"--exact"}, {"--exact"});
  refuse(with(flags, {"--tokens", "900"}), {"beyond --tokens", "900"});
  refuse(with(flags, {"--bos", "on"}), {"another text"});
  std::string other = read_file(text_);
  other[900] = other[900] == 'x' ? 'y' : 'x';
  refuse(with(flags, {"--text", write("other.txt", other)}), {"another text", "other tokens"});
  Strings short_text = with(flags, {"--text", write("short.txt", read_file(text_).substr(0, 500))});
  short_text.resize(short_text.size() - 2);  // no --tokens
  refuse(short_text, {"another text", "500"});
  write_random_model(file("other"), {.seed = 77});
  refuse(with(flags, {"--model", file("other")}), {"model"});
  // A change after the state's end does not count as another text.
  other = read_file(text_);
  other[1500] = 'x';
  run_json(with(flags, {"--text", write("later.txt", other), "--tokens", "2000"}));
}

TEST_F(ScoreState, OutputsOfAnotherRunAreRefused) {
  const Strings state = {"--state", in("a.state")};
  run_json(score(stream() + state + Strings{"--tokens", "1000", "--nll-out", in("a.nll")}));
  const auto refuse = [&](const Strings& more, const Strings& parts) {
    expect_failure(score(stream() + state + more), parts);
  };
  refuse({"--nll-out", in("new.nll")}, {"new.nll", "--nll-out", "999"});
  EXPECT_FALSE(file_exists(in("new.nll")));
  const std::string foreign = write("notes.txt", "my notes\nof today\n");
  refuse({"--log", foreign}, {"notes.txt", "log"});
  std::string lines;
  for (int k = 0; k < 2000; ++k) lines += "1.5\n";
  const std::string other = write("other.nll", lines);
  refuse({"--nll-out", other}, {"other.nll", "--nll-out"});
  EXPECT_EQ(read_file(foreign), "my notes\nof today\n");
  EXPECT_EQ(read_file(other), lines);
}

TEST_F(ScoreState, StatesThatAreNone) {
  run_json(score(stream() + Strings{"--state", in("a.state"), "--tokens", "1000"}));
  const std::string bytes = read_file(in("a.state"));
  const auto refuse = [&](const std::string& path, const Strings& parts) {
    expect_failure(score(stream() + Strings{"--state", path}), parts);
  };
  refuse(folder_, {folder_, "folder"});
  refuse(text_, {text_});
  refuse(write("empty.state", ""), {"empty.state"});
  for (const size_t n : {size_t{7}, size_t{23}, size_t{300}, bytes.size() / 2, bytes.size() - 1})
    refuse(write("cut.state", bytes.substr(0, n)), {"cut.state"});
  for (const size_t at :
       {size_t{3}, size_t{9}, size_t{14}, size_t{200}, bytes.size() / 2, bytes.size() - 1}) {
    std::string changed = bytes;
    changed[at] = static_cast<char>(changed[at] ^ 4);
    refuse(write("changed.state", changed), {"changed.state"});
  }
  expect_failure(score({"--state-every", "10"}), {"--state-every", "--state"});
  expect_failure(score({"--state", in("x"), "--log", in("x")}), {"x", "--log"});
}

// Lines that a run wrote after its last state are cut; those before stay.
TEST_F(ScoreState, TheLogHasEachLineOnce) {
  text_ = write("long.txt", make_text(80000));
  const Strings policy = {"--policy", "sink", "--window", "8"};
  run_json(score(policy + outputs("a") + Strings{"--tokens", "70000"}));
  const std::string log = read_file(in("a.log"));
  EXPECT_EQ(std::count(log.begin(), log.end(), '\n'), 2);
  run_json(score(policy + outputs("a") + Strings{"--tokens", "75000"}));
  const std::string longer = read_file(in("a.log"));
  EXPECT_EQ(std::count(longer.begin(), longer.end(), '\n'), 2);
  const size_t first = log.find('\n');
  EXPECT_EQ(longer.substr(0, first), log.substr(0, first));
  // A line that a power failure has cut does not count as a line.
  write("torn.log", log.substr(0, first + 20));
  run_json(score(policy + Strings{"--state", in("a.state"), "--log", file("torn.log")}));
  const std::string torn = read_file(file("torn.log"));
  EXPECT_EQ(torn.substr(0, first), log.substr(0, first));
  std::istringstream lines(torn);
  for (std::string line; std::getline(lines, line);) EXPECT_TRUE(parse_json(line, "log").is_object());
}

}  // namespace
}  // namespace sepllm::test
