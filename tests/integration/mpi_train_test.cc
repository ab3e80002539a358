// `sepllm train` as several processes, started by the real mpirun: the same losses on any number of ranks,
// the same bits on the same number, ranks that die, hang or have other files.
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <csignal>
#include <filesystem>
#include <random>
#include <sstream>

#include "base/file.h"
#include "kernels/cpu_features.h"
#include "tests/support/cli.h"
#include "tests/support/shell_run.h"
#include "train/token_file.h"
#include "train/train_state.h"

namespace sepllm::test {
namespace {

using Strings = std::vector<std::string>;

bool have_mpirun() {
  static const bool have = std::system("mpirun --version > /dev/null 2>&1") == 0;
  return have;
}

bool long_tests() { return std::getenv("SEPLLM_LONG_TESTS") != nullptr; }

// Several ranks on few cores, in a container or not. Memory that Open MPI keeps until its end does not count
// as our leak.
std::string mpirun(int n, const std::string& more = "") {
  const std::string root = ::geteuid() == 0 ? " --allow-run-as-root" : "";
  return "LSAN_OPTIONS=detect_leaks=0 mpirun" + root + " --oversubscribe --bind-to none " + more + " -np " +
         std::to_string(n) + " ";
}

class MpiTrain : public RandomModelTest {
 protected:
  void SetUp() override {
    if (!have_mpirun()) GTEST_SKIP() << "mpirun is not installed (package openmpi-bin)";
    folder_ = file("mpi" + std::to_string(count_++));
    std::filesystem::create_directory(folder_);
    write_tokens(in("text"), 3);
    config_ = write("config.yaml",
                    "family: gpt_neox\nn_layers: 3\nhidden_size: 32\nn_heads: 2\n"
                    "tokenizer: " +
                        model() + "\ndata: " + in("text") +
                        "\nvalid_share: 0.1\nseq_length: 24\nglobal_batch_size: 6\n"
                        "micro_batch_size: 2\ntrain_steps: 200\nlr: 3e-3\nmin_lr: 1e-3\n"
                        "policy: {policy: sep, init: 2, window: 6}\nsave_interval: 50\n"
                        "eval_interval: 50\neval_samples: 9\nthreads: 1\ncompute: f32\n");
  }
  static void write_tokens(const std::string& prefix, unsigned seed) {
    TokenFileWriter writer(prefix, 258);
    std::mt19937 random(seed);
    for (int document = 0; document < 40; ++document) {
      std::vector<int32_t> tokens;
      for (size_t i = 0; i < 100 + random() % 200; ++i)
        tokens.push_back(random() % 5 == 0 ? '.' : static_cast<int32_t>('a' + (i * i + random() % 2) % 9));
      writer.add(tokens);
      writer.end_document();
    }
    writer.finish();
  }
  std::string in(const std::string& name) const { return folder_ + "/" + name; }
  Strings train(const std::string& run, const Strings& settings = {}) const {
    return Strings{"train", "--config", config_, "--set", "save=" + in(run)} + settings;
  }
  static Strings steps(int n) {
    return {"--set", "train_steps=" + std::to_string(n), "--set", "lr_decay_steps=200"};
  }
  ShellRun shell() const { return ShellRun(folder_); }
  int run(int ranks, const std::string& name, const Strings& settings = {}) const {
    const int code = shell().run(mpirun(ranks), train(name, settings));
    EXPECT_EQ(code, 0) << shell().err();
    return code;
  }

  std::vector<Json> trace(const std::string& run) const {
    std::istringstream lines(read_file(in(run) + "/metrics.jsonl"));
    std::vector<Json> out;
    for (std::string line; std::getline(lines, line);) {
      out.push_back(parse_json(line, "metrics"));
      for (const char* of_this_run : {"seconds", "elapsed", "gemm_share", "ranks", "seconds_waited"})
        out.back().erase(of_this_run);
    }
    return out;
  }
  std::string weights(const std::string& run) const {
    return read_file(in(run) + "/model/model.safetensors");
  }
  // Compares losses and norms of all steps with those of another run, relatively.
  void expect_close(const std::string& a, const std::string& b, double most) const {
    const std::vector<Json> one = trace(a), other = trace(b);
    ASSERT_EQ(one.size(), other.size());
    for (size_t k = 0; k < one.size(); ++k) {
      for (const char* key : {"loss", "valid_loss"}) {
        ASSERT_EQ(one[k].contains(key), other[k].contains(key));
        if (!one[k].contains(key)) continue;
        const auto x = one[k][key].get<double>(), y = other[k][key].get<double>();
        ASSERT_LE(std::abs(x - y), most * std::abs(x)) << key << " of step " << k + 1;
      }
      // The samples are the same, whichever rank had them.
      EXPECT_EQ(one[k]["attention_flops"], other[k]["attention_flops"]);
      EXPECT_EQ(one[k]["tokens"], other[k]["tokens"]);
    }
  }

  std::string folder_, config_;
  static inline int count_ = 0;
};

TEST_F(MpiTrain, TheSameLossesOnAnyNumberOfRanks) {
  ASSERT_EQ(shell().run("", train("alone")), 0) << shell().err();
  run(1, "one");
  EXPECT_EQ(trace("one"), trace("alone"));
  EXPECT_EQ(weights("one"), weights("alone"));
  for (const int ranks : {2, 3, 4}) {
    SCOPED_TRACE(std::to_string(ranks) + " ranks");
    const std::string name = "of" + std::to_string(ranks);
    run(ranks, name);
    expect_close("alone", name, 1e-5);
    EXPECT_NE(trace("alone"), trace(name));  // so it was not one rank after all
  }
  EXPECT_EQ(trace("alone").size(), 200U);
}

TEST_F(MpiTrain, TheSameBitsOnTheSameRanksAlsoAcrossABreak) {
  run(3, "whole", steps(40));
  run(3, "again", steps(40));
  EXPECT_EQ(trace("again"), trace("whole"));
  for (const int n : {13, 27, 40}) run(3, "parts", steps(n) + Strings{"--set", "eval_interval=1000"});
  const std::vector<Json> whole = trace("whole"), parts = trace("parts");
  ASSERT_EQ(parts.size(), whole.size());
  for (size_t k = 0; k < whole.size(); ++k) {
    EXPECT_EQ(parts[k]["loss"], whole[k]["loss"]) << k;
    EXPECT_EQ(parts[k]["gradient_norm"], whole[k]["gradient_norm"]) << k;
  }
  EXPECT_EQ(weights("parts").size(), weights("whole").size());
}

TEST_F(MpiTrain, GoesOnWithAnotherNumberOfRanks) {
  ASSERT_EQ(shell().run("", train("alone", steps(90))), 0) << shell().err();
  ASSERT_EQ(shell().run("", train("mixed", steps(30))), 0) << shell().err();
  run(2, "mixed", steps(60));
  EXPECT_NE(shell().err().find("continuing after step 30"), std::string::npos);
  ASSERT_EQ(shell().run("", train("mixed", steps(90))), 0) << shell().err();
  const std::vector<Json> alone = trace("alone"), mixed = trace("mixed");
  ASSERT_EQ(alone.size(), mixed.size());
  for (size_t k = 0; k < alone.size(); ++k) {
    const auto x = alone[k]["loss"].get<double>(), y = mixed[k]["loss"].get<double>();
    EXPECT_LE(std::abs(x - y), 1e-5 * x) << k;
  }
}

TEST_F(MpiTrain, OtherRanksNeedOnlyDataAndTokenizer) {
  // Each rank has a folder of its own, as on two machines; rank 1 has neither settings nor the run's folder.
  for (const char* place : {"a", "b"}) {
    std::filesystem::create_directory(in(place));
    for (const char* end : {"/text.bin", "/text.idx"})
      std::filesystem::copy(in("text") + std::string(end).substr(5), in(place) + end);
  }
  const Strings settings = steps(5) + Strings{"--set", "data=text", "--set", "save=run"};
  const auto run_both = [&] {
    std::string first = SEPLLM_BINARY;
    for (const std::string& s : Strings{"train", "--config", config_} + settings) first += " '" + s + "'";
    return shell().run(mpirun(1, "--wdir " + in("a")) + first + " : --wdir " + in("b") + " -np 1", {"train"});
  };
  EXPECT_EQ(run_both(), 0) << shell().err();
  EXPECT_TRUE(file_exists(in("a/run/model")));
  EXPECT_FALSE(file_exists(in("b/run")));

  // Changes one byte of rank 1's copy.
  std::string bytes = read_file(in("b/text.bin"));
  bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 1);
  write_file_atomically(in("b/text.bin"), bytes);
  EXPECT_EQ(run_both(), 1);
  EXPECT_NE(shell().err().find("rank 1 ("), std::string::npos) << shell().err();
  EXPECT_NE(shell().err().find("the token file text differs from that of rank 0"), std::string::npos)
      << shell().err();
  std::filesystem::remove(in("b/text.idx"));
  EXPECT_EQ(run_both(), 1);
  EXPECT_NE(shell().err().find("rank 1 ("), std::string::npos) << shell().err();
  EXPECT_NE(shell().err().find("text.idx"), std::string::npos) << shell().err();
}

TEST_F(MpiTrain, WrongSettingsAreOneLine) {
  for (const auto& [setting, part] :
       std::vector<std::pair<std::string, std::string>>{{"hiden_size=3", "hidden_size"},
                                                        {"global_batch_size=2", "ranks"},
                                                        {"data=" + in("none"), "none.idx"}}) {
    EXPECT_EQ(shell().run(mpirun(3), train("none", {"--set", setting, "--set", "micro_batch_size=1"})), 1);
    const std::string err = shell().err();
    const size_t at = err.find("sepllm: error: ");
    ASSERT_NE(at, std::string::npos) << err;
    EXPECT_NE(err.find(part), std::string::npos) << err;
    EXPECT_EQ(err.find("sepllm: error: ", at + 1), std::string::npos) << err;
    EXPECT_FALSE(file_exists(in("none")));
  }
}

// Something happens to one of three ranks; then the same command continues and ends as if nothing had
// happened.
class MpiFault : public MpiTrain {
 protected:
  static constexpr double kMost = 60;  // seconds until all have ended

  // Returns when all ranks have ended.
  int faulty(const std::string& before, const Strings& arguments) {
    const auto start = std::chrono::steady_clock::now();
    const int code = shell().run(before, arguments);
    EXPECT_LT(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(), kMost);
    EXPECT_NE(code, 0) << shell().err();
    return code;
  }
  // For mpirun: a system call of one rank that fails, or its main thread (faults/faulty_calls.cc).
  static std::string fault(const std::string& what, int rank, const std::string& path = "") {
    return "-x LD_PRELOAD=" + std::string(SEPLLM_FAULTY_CALLS) +
           " -x ASAN_OPTIONS=verify_asan_link_order=0 -x SEPLLM_FAULT=" + what +
           " -x SEPLLM_FAULT_RANK=" + std::to_string(rank) +
           (path.empty() ? "" : " -x SEPLLM_FAULT_PATH=" + path);
  }
  static std::string lines_of(const std::string& metrics, int lines) {
    return "[ \"$(cat " + metrics + " 2>/dev/null | wc -l)\" -ge " + std::to_string(lines) + " ]";
  }
  // Sends a signal to a rank of a run as soon as a test of the shell is true.
  int signalled(const std::string& signal, int rank, const std::string& when, const Strings& arguments,
                const std::string& more = "") {
    std::string command = mpirun(3, more) + SEPLLM_BINARY;
    for (const std::string& a : arguments) command += " '" + a + "'";
    const std::string script = command + " & pid=$!\nuntil " + when +
                               " || ! kill -0 $pid 2>/dev/null; do sleep 0.02; done\nranks=($(cat "
                               "/proc/$pid/task/$pid/children))\nkill -" +
                               signal + " ${ranks[" + std::to_string(rank) + "]}\nwait $pid\n";
    const auto start = std::chrono::steady_clock::now();
    const int status =
        std::system(("bash " + write("fault.sh", script) + " > " + in("out") + " 2> " + in("err")).c_str());
    EXPECT_LT(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(), kMost);
    return WEXITSTATUS(status);
  }
  void expect_whole_after_going_on(const std::string& run_name, const Strings& settings) {
    run(3, run_name, settings);
    EXPECT_EQ(trace(run_name), trace("whole"));
    EXPECT_EQ(weights(run_name), weights("whole"));
  }
};

TEST_F(MpiFault, ARankKilledWhileItSends) {
  const Strings settings = steps(12) + Strings{"--set", "save_interval=4"};
  run(3, "whole", settings);
  // The numbers of messages: rank 0 sends 52 (the others 42) before the first step, and each step two to each
  // of 15 buckets for the sum of the gradients, 4 for other sums, and 30 with new weights; 2 before the step
  // after a save, and the others 30 in each save. The finished steps and checkpoints show that the kill came
  // there.
  struct Kill {
    int rank, message;
    size_t steps;
    std::vector<int64_t> checkpoints;
  };
  std::vector<Kill> kills = {{0, 52 + 64 + 15, 1, {}},             // in the second step's reduction
                             {2, 42 + 64 + 15, 1, {}},             //
                             {1, 42 + 2 * 64 + 34 + 15, 3, {}},    // new weights of the third
                             {1, 42 + 8 * 64 + 32 + 15, 8, {4}}};  // in the second save
  if (long_tests())
    kills.insert(kills.end(), {{0, 3, 0, {}}, {1, 10, 0, {}}, {0, 52 + 9 * 64 + 2 * 2 + 10, 9, {4, 8}}});
  for (const Kill& kill : kills) {
    SCOPED_TRACE(std::to_string(kill.rank) + ", message " + std::to_string(kill.message));
    std::filesystem::remove_all(in("broken"));
    const std::string what = fault("MPI_Isend:" + std::to_string(kill.message) + ":kill", kill.rank);
    faulty(mpirun(3, what), train("broken", settings));
    if (kill.steps > 0) {
      // Rank 0 may not have written the line of a step whose new weights or save are on their way elsewhere.
      EXPECT_GE(trace("broken").size() + (kill.steps > 2 ? 1 : 0), kill.steps);
      EXPECT_LE(trace("broken").size(), kill.steps);
      EXPECT_EQ(checkpoint_steps(in("broken")), kill.checkpoints);
    }
    EXPECT_NE(shell().err().find("rank " + std::to_string(kill.rank)), std::string::npos) << shell().err();
    expect_whole_after_going_on("broken", settings);
  }
}

TEST_F(MpiFault, RankZeroKilledInASave) {
  const Strings settings = steps(12) + Strings{"--set", "save_interval=4"};
  run(3, "whole", settings);
  Strings points = {"rename:2:kill", "fsync:2:28"};
  if (long_tests()) points.emplace_back("fsync:1:kill");
  for (const std::string& point : points) {
    SCOPED_TRACE(point);
    std::filesystem::remove_all(in("broken"));
    faulty(mpirun(3, fault(point, 0)), train("broken", settings));
    if (point.ends_with("28")) {
      EXPECT_NE(shell().err().find("sepllm: error: rank 0"), std::string::npos) << shell().err();
    }
    expect_whole_after_going_on("broken", settings);
  }
}

TEST_F(MpiFault, AnotherRankKilledWhileRankZeroSaves) {
  const Strings settings = steps(12) + Strings{"--set", "save_interval=4"};
  run(3, "whole", settings);
  // Rank 0 stays in the save until it is ended: everything is written, but does not have its final name.
  const std::string saving = "ls " + in("broken") + "/step-000000008.ckpt.tmp.* > /dev/null 2>&1";
  EXPECT_NE(signalled("KILL", 1, saving, train("broken", settings), fault("rename:3:hang", 0)), 0);
  EXPECT_EQ(checkpoint_steps(in("broken")), std::vector<int64_t>{4});
  EXPECT_EQ(trace("broken").size(), 8U);
  EXPECT_NE(read_file(in("err")).find("rank 1"), std::string::npos) << read_file(in("err"));
  expect_whole_after_going_on("broken", settings);
}

TEST_F(MpiFault, ARankKilledWhileItComputes) {
  // Steps that are nearly all computing, so that a signal meets it.
  const Strings settings = steps(6) + Strings{"--set", "save_interval=2", "--set", "seq_length=200",
                                              "--set", "hidden_size=64",  "--set", "global_batch_size=12"};
  run(3, "whole", settings);
  for (const int rank : {0, 2}) {
    SCOPED_TRACE(rank);
    std::filesystem::remove_all(in("broken"));
    EXPECT_NE(signalled("KILL", rank, lines_of(in("broken/metrics.jsonl"), 3), train("broken", settings)), 0);
    EXPECT_TRUE(file_exists(in("broken/step-000000002.ckpt")));
    expect_whole_after_going_on("broken", settings);
  }
}

TEST_F(MpiFault, ARankThatStandsStill) {
  const Strings settings = {"--set", "save_interval=20", "--set", "rank_timeout=2"};
  const Strings all = settings + Strings{"--set", "train_steps=100000", "--set", "lr_decay_steps=200"};
  for (const int rank : {0, 1}) {
    SCOPED_TRACE(rank);
    const std::string name = "still" + std::to_string(rank);
    EXPECT_NE(signalled("STOP", rank, lines_of(in(name) + "/metrics.jsonl", 25), train(name, all)), 0);
    const std::string err = read_file(in("err"));
    EXPECT_NE(err.find("sepllm: error: rank " + std::to_string(rank) + " ("), std::string::npos) << err;
    EXPECT_NE(err.find("has not answered for 2 seconds"), std::string::npos) << err;
    EXPECT_GE(read_checkpoint_state(checkpoint_path(in(name), checkpoint_steps(in(name)).back())).step, 20);
  }
}

// Its process lives and sends heartbeats, but the thread that computes hangs.
TEST_F(MpiFault, ARankThatHangs) {
  const Strings settings = steps(6) + Strings{"--set", "save_interval=2",     "--set", "seq_length=200",
                                              "--set", "hidden_size=64",      "--set", "rank_timeout=2",
                                              "--set", "global_batch_size=12"};
  run(3, "whole", settings);
  const auto expect_named = [&](int rank, const std::string& doing) {
    const std::string line = "sepllm: error: rank " + std::to_string(rank) + " (";
    const std::string err = read_file(in("err"));
    EXPECT_NE(err.find(line), std::string::npos) << err;
    EXPECT_NE(err.find("has made no progress for 2 seconds while " + doing), std::string::npos) << err;
    expect_whole_after_going_on("broken", settings);
    std::filesystem::remove_all(in("broken"));
  };
  for (const int rank : {0, 1}) {
    SCOPED_TRACE(rank);
    EXPECT_NE(signalled("USR2", rank, lines_of(in("broken/metrics.jsonl"), 3), train("broken", settings),
                        fault("main:0:hang", rank)),
              0);
    EXPECT_TRUE(file_exists(in("broken/step-000000002.ckpt")));
    expect_named(rank, "");
    faulty(mpirun(3, fault("open:1:hang", rank, "text.bin")), train("broken", settings));
    expect_named(rank, "opening its data");
  }
  faulty(mpirun(3, fault("rename:3:hang", 0)), train("broken", settings));
  EXPECT_EQ(checkpoint_steps(in("broken")), std::vector<int64_t>{2});
  expect_named(0, "saving the checkpoint of step 4");
}

TEST_F(MpiFault, ARankThatNeverComes) {
  if (!long_tests()) GTEST_SKIP() << "takes 50 seconds: set SEPLLM_LONG_TESTS=1";
  for (const int rank : {0, 2}) {
    faulty(mpirun(3, fault("main:0:never", rank)), train("none", steps(3)));
    EXPECT_NE(shell().err().find("sepllm: error: not all ranks have connected within 50 seconds"),
              std::string::npos)
        << shell().err();
  }
}

TEST_F(MpiFault, ASlowRankIsWaitedFor) {
  // From its second step on a step takes it longer than rank_timeout. A single piece of work must not, also
  // where other programs take their share of the machine.
  const Strings settings = steps(3) + Strings{"--set", "seq_length=100",    "--set", "hidden_size=128",
                                              "--set", "rank_timeout=2",    "--set", "global_batch_size=48",
                                              "--set", "micro_batch_size=8"};
  run(3, "whole", settings);
  ASSERT_EQ(signalled("USR2", 1, lines_of(in("slow/metrics.jsonl"), 1), train("slow", settings),
                      fault("main:0:slow", 1)),
            0)
      << read_file(in("err"));
  EXPECT_EQ(trace("slow"), trace("whole"));
  EXPECT_EQ(weights("slow"), weights("whole"));
  double most = 0;
  std::istringstream lines(read_file(in("slow/metrics.jsonl")));
  for (std::string line; std::getline(lines, line);)
    most = std::max(most, parse_json(line, "metrics")["seconds"].get<double>());
  EXPECT_GT(most, 2) << "it was not slow";
}

TEST_F(MpiFault, ATerminatedRankStopsAllAfterASave) {
  for (const std::string signal : {"TERM", "USR1"}) {
    const std::string name = "stopped" + signal;
    const Strings endless = {"--set", "save_interval=100000", "--set", "train_steps=100000",
                             "--set", "lr_decay_steps=200"};
    EXPECT_NE(signalled(signal, 2, lines_of(in(name) + "/metrics.jsonl", 3), train(name, endless)), 0);
    EXPECT_NE(read_file(in("err")).find("saved; the same command continues"), std::string::npos)
        << read_file(in("err"));
    const auto done = static_cast<int64_t>(trace(name).size());
    EXPECT_EQ(checkpoint_steps(in(name)), std::vector<int64_t>{done});
  }
}

// Ranks on processors with and without products of bf16 use none; who insists is refused.
TEST_F(MpiTrain, RanksComputeInBf16OnlyTogether) {
  if (!cpu_has_bf16_products()) GTEST_SKIP() << "this processor has no products of bf16";
  const auto mixed = [&](const std::string& name, const std::string& compute) {
    const Strings arguments = train(name, steps(2) + Strings{"--set", "compute=" + compute});
    std::string first = mpirun(1, "-x SEPLLM_CPU=avx2") + SEPLLM_BINARY;
    for (const std::string& a : arguments) first += " '" + a + "'";
    return shell().run(first + " : -np 1 ", arguments);
  };
  EXPECT_EQ(mixed("auto", "auto"), 0) << shell().err();
  EXPECT_EQ(parse_json(read_file(in("auto") + "/run.json"), "run.json")["settings"]["compute"], "f32");
  EXPECT_NE(mixed("bf16", "bf16"), 0);
  EXPECT_NE(shell().err().find("the same on all ranks"), std::string::npos) << shell().err();
  run(2, "together", steps(4) + Strings{"--set", "compute=bf16"});
  EXPECT_EQ(parse_json(read_file(in("together") + "/run.json"), "run.json")["settings"]["compute"], "bf16");
}

}  // namespace
}  // namespace sepllm::test
