// `sepllm train` against a system that fails: killed, interrupted, short of space or permissions at every
// kind of call, with checkpoints that are damaged anywhere. A continued run has the same bits, and nothing is
// lost.
#include <chrono>
#include <csignal>

#include "tests/support/rewrite_state.h"
#include "tests/support/train_run.h"

namespace sepllm::test {
namespace {

bool every_fault() { return std::getenv("SEPLLM_LONG_TESTS") != nullptr; }

class TrainFaults : public TrainRun {
 protected:
  // A run of 12 steps, 3 checkpoints of which one is deleted, and the model.
  Strings small(const std::string& run) const {
    return train(run, {"--set", "train_steps=12", "--set", "save_interval=4", "--set", "eval_interval=4"});
  }
  int run(const std::string& fault, const Strings& arguments) const {
    return shell().run(fault.empty() ? "" : ShellRun::with_fault(fault), arguments);
  }
  void run_well(const Strings& arguments) const { ASSERT_EQ(run("", arguments), 0) << shell().err(); }
  void expect_same_run(const std::string& a, const std::string& b) const {
    EXPECT_EQ(trace(a), trace(b));
    EXPECT_EQ(weights(a), weights(b));
  }
  // Nothing half-written is in the run's folder.
  void expect_tidy(const std::string& run) const {
    for (const auto& entry : std::filesystem::directory_iterator(in(run)))
      EXPECT_EQ(entry.path().string().find(".tmp."), std::string::npos) << entry.path();
  }
  std::string checkpoint(const std::string& run, int step) const {
    return in(run) + "/step-" + std::string(step < 10 ? "00000000" : "0000000") + std::to_string(step) +
           ".ckpt";
  }
  static void put(const std::string& path, const std::string& bytes) { write_file_atomically(path, bytes); }
};

// Every call that writes: of the run, its checkpoints and the finished model (./test: the first of each kind
// and some of the later ones).
TEST_F(TrainFaults, KilledAtAnyCall) {
  run_well(small("whole"));
  int kills = 0;
  for (const char* call : {"write:%:kill", "write:%:half", "fsync:%:kill", "rename:%:kill", "remove:%:kill",
                           "mkdir:%:kill", "create:%:kill", "ftruncate:%:kill"}) {
    for (int n = 1;; n += every_fault() ? 1 : n < 2 ? 1 : n < 16 ? 7 : 13) {
      std::string fault = call;
      fault.replace(fault.find('%'), 1, std::to_string(n));
      SCOPED_TRACE(fault);
      std::filesystem::remove_all(in("broken"));
      const int code = run(fault, small("broken"));
      if (code == 0) break;  // there is no n-th call
      ASSERT_EQ(code, 128 + SIGKILL) << shell().err();
      ++kills;
      run_well(small("broken"));
      expect_same_run("broken", "whole");
      expect_tidy("broken");
    }
  }
  EXPECT_GE(kills, 20);
}

// SIGTERM at calls in steps (metrics), in saves and in the export: the run saves and says so, unless it was
// at its end; then it continues.
TEST_F(TrainFaults, TerminatedInAStepAndInASave) {
  run_well(small("whole"));
  int stopped = 0, complete = 0;
  for (const char* fault : {"write:1:term", "write:5:term", "fsync:2:term", "rename:1:term", "rename:2:term",
                            "rename:3:term", "mkdir:2:term"}) {
    SCOPED_TRACE(fault);
    std::filesystem::remove_all(in("broken"));
    const int code = run(fault, small("broken"));
    (code == 0 ? complete : stopped)++;
    if (code != 0) {
      EXPECT_NE(shell().err().find("saved"), std::string::npos) << code << shell().err();
    }
    expect_tidy("broken");
    run_well(small("broken"));
    expect_same_run("broken", "whole");
  }
  EXPECT_GE(stopped, 3);
  EXPECT_GE(complete, 1);
}

// Interrupted, and again at the first thing that the resumed run does, in every way.
TEST_F(TrainFaults, InterruptedAgainRightAfterAResume) {
  run_well(small("whole"));
  EXPECT_EQ(run("write:7:kill", small("broken")), 128 + SIGKILL);
  for (const char* fault : {"create:1:kill", "ftruncate:1:kill", "write:1:kill", "write:1:half",
                            "write:1:term", "write:1:28", "ftruncate:1:term"}) {
    SCOPED_TRACE(fault);
    EXPECT_NE(run(fault, small("broken")), 0);
  }
  run_well(small("broken"));
  expect_same_run("broken", "whole");
  expect_tidy("broken");
}

// Five times in a row (fifty in --long), each after a share of the time that the whole run takes; if the run
// reaches its end meanwhile, it is started again.
TEST_F(TrainFaults, KilledAtRandomMomentsAgainAndAgain) {
  const std::string steps = every_fault() ? "4000" : "400";
  const Strings longer = {"--set", "train_steps=" + steps, "--set", "save_interval=5",
                          "--set", "eval_samples=2"};
  const auto start = std::chrono::steady_clock::now();
  run_well(train("whole", longer));
  const std::chrono::duration<double> whole = std::chrono::steady_clock::now() - start;
  std::mt19937 random(5);
  const int most = every_fault() ? 50 : 5;
  const double share = 0.8 / most;
  int kills = 0, runs = 1, resumed = 0;
  while (kills < most) {
    const double seconds = whole.count() * 2 * share * static_cast<double>(random() % 1000) / 1000;
    const int code = shell().run("timeout -s KILL " + std::to_string(seconds), train("broken", longer));
    resumed += shell().err().find("continuing after step") != std::string::npos ? 1 : 0;
    if (code == 128 + SIGKILL) {
      ++kills;
      continue;
    }
    ASSERT_EQ(code, 0) << shell().err();
    expect_same_run("broken", "whole");
    std::filesystem::remove_all(in("broken"));
    ++runs;
  }
  run_well(train("broken", longer));
  expect_same_run("broken", "whole");
  std::cout << kills << " kills in " << runs << " run(s), " << resumed << " times from a checkpoint\n";
}

TEST_F(TrainFaults, ATerminatedRunSavesAndGoesOn) {
  const Strings longer = {"--set", "train_steps=100000", "--set", "save_interval=100000",
                          "--set", "lr_decay_steps=100"};
  std::string command = SEPLLM_BINARY;
  for (const std::string& a : train("a", longer)) command += " '" + a + "'";
  const std::string script = command + " & pid=$!\nuntil [ -s " + in("a/metrics.jsonl") +
                             " ] || ! kill -0 $pid; do sleep 0.02; done\nkill -TERM $pid; wait $pid\n";
  const int status =
      std::system(("bash " + write("term.sh", script) + " > " + in("out") + " 2> " + in("err")).c_str());
  EXPECT_EQ(WEXITSTATUS(status), 128 + SIGTERM);
  EXPECT_NE(read_file(in("err")).find("saved"), std::string::npos) << read_file(in("err"));
  const size_t steps = trace("a").size();
  ASSERT_GE(steps, 1U);
  ASSERT_EQ(shell().run("", train("a", {"--set", "train_steps=" + std::to_string(steps + 3), "--set",
                                        "lr_decay_steps=100"})),
            0);
  EXPECT_NE(shell().err().find("continuing after step " + std::to_string(steps)), std::string::npos);
}

// A full disk, one that fails, a folder that cannot be written: one clear line, the existing checkpoint does
// not change, and when the fault is gone the run continues.
TEST_F(TrainFaults, AFailingCallIsReportedAndTheOldCheckpointStays) {
  run_well(small("whole"));
  const Strings begin = train("a", {"--set", "train_steps=4", "--set", "lr_decay_steps=12", "--set",
                                    "save_interval=4", "--set", "eval_interval=4"});
  const std::string old = checkpoint("a", 4);
  const std::string full = ":" + std::to_string(ENOSPC), bad = ":" + std::to_string(EIO),
                    no = ":" + std::to_string(EACCES), read_only = ":" + std::to_string(EROFS);
  for (const std::string& fault :
       {"write:1" + full, "write:4" + bad, "write:5" + full, "write:6" + full, "fsync:1" + bad,
        "fsync:2" + bad, "rename:1" + no, "create:1" + read_only, "create:2" + read_only, "ftruncate:1" + bad,
        "rename:3" + full, "mkdir:1" + read_only}) {
    SCOPED_TRACE(fault);
    std::filesystem::remove_all(in("a"));
    run_well(begin);
    std::filesystem::remove_all(in("a") + "/model");
    const std::string before = read_file(old);
    const int code = run(fault, small("a"));
    const std::string err = shell().err();
    ASSERT_EQ(code, 1) << err;
    const size_t line = err.find("sepllm: error: ");
    ASSERT_NE(line, std::string::npos) << err;
    EXPECT_EQ(err.find('\n', line) + 1, err.size()) << err;
    expect_tidy("a");
    // The newest two are kept: this one until the run has two later ones.
    EXPECT_TRUE(file_exists(checkpoint("a", 12)) || read_file(old) == before);
    run_well(small("a"));
    expect_same_run("a", "whole");
  }
  // The run does not stop because old checkpoints cannot be deleted.
  EXPECT_EQ(run("remove:1" + no, small("b")), 0) << shell().err();
  EXPECT_TRUE(file_exists(checkpoint("b", 4)));
  expect_same_run("b", "whole");
}

TEST_F(TrainFaults, ShortWritesAreGoneOnWith) {
  run_well(small("whole"));
  EXPECT_EQ(run("write:1:short", small("short")), 0) << shell().err();
  expect_same_run("short", "whole");
}

// The newest checkpoint cut off or changed in any of its parts, or something else under its name.
TEST_F(TrainFaults, ABrokenCheckpointIsPassedOverForTheOneBefore) {
  run_well(small("a"));
  run_well(small("whole"));
  const std::string newest = checkpoint("a", 12), bytes = read_file(newest);
  ASSERT_EQ(bytes.substr(0, 8), "SEPLLMST");
  const size_t header = 24, sections = bytes.find('\0', header + 2);
  const auto flip = [&](size_t at) {
    std::string changed = bytes;
    changed[at] = static_cast<char>(changed[at] ^ 1);
    return changed;
  };
  std::vector<std::string> broken = {"", "S", bytes + "x", "an entirely different file"};
  for (const size_t n : {size_t{8}, size_t{23}, header + 10, bytes.size() / 2, bytes.size() - 1})
    broken.push_back(bytes.substr(0, n));
  for (const size_t at : {size_t{0}, size_t{8}, size_t{12}, size_t{16}, header + 5, sections + 1,
                          bytes.size() / 2, bytes.size() - 9, bytes.size() - 1})
    broken.push_back(flip(at));
  for (const std::string& content : broken) {
    SCOPED_TRACE(content.size());
    put(newest, content);
    run_well(small("a"));
    EXPECT_NE(shell().err().find("skipped: " + newest), std::string::npos) << shell().err();
    EXPECT_NE(shell().err().find("continuing after step 8"), std::string::npos) << shell().err();
    EXPECT_NE(read_file(newest), content);
  }
  expect_same_run("a", "whole");
  std::filesystem::remove(newest);
  std::filesystem::create_directory(newest);
  EXPECT_EQ(shell().run("", small("a")), 1);  // in the way of the new one
  EXPECT_NE(shell().err().find("folder"), std::string::npos);
  std::filesystem::remove(newest);
  run_well(small("a"));
  expect_same_run("a", "whole");
}

// Continuing from the one before it would bury it.
TEST_F(TrainFaults, ACheckpointOfANewerVersionIsNotPassedOver) {
  run_well(small("a"));
  const std::string newest = checkpoint("a", 12);
  rewrite_state(newest, [](Json& header) { header["version"] = 2; });
  const std::string bytes = read_file(newest);
  const Strings parts = {newest, "a training checkpoint of a newer version of sepllm",
                         "expected version 1, got 2"};
  expect_failure(small("a"), parts);
  expect_failure({"export", "--run", in("a"), "--out", in("other")}, parts);
  EXPECT_EQ(read_file(newest), bytes);
}

TEST_F(TrainFaults, NothingGoesOnWithoutAWholeCheckpoint) {
  const Strings one = small("a") + Strings{"--set", "keep_last=1"};
  run_well(one);
  const std::string bytes = read_file(checkpoint("a", 12));
  put(checkpoint("a", 12), bytes.substr(0, 1000));
  expect_failure(one, {"step-000000012.ckpt", "truncated"});
  EXPECT_EQ(read_file(checkpoint("a", 12)).size(), 1000U);
  // A damaged later one does not push out the good one that was just written.
  std::filesystem::remove_all(in("a"));
  run_well(one + Strings{"--set", "train_steps=4", "--set", "lr_decay_steps=12"});
  put(checkpoint("a", 10), bytes.substr(0, 1000));
  run_well(one + Strings{"--set", "train_steps=8", "--set", "lr_decay_steps=12"});
  EXPECT_TRUE(file_exists(checkpoint("a", 8)));
  run_well(one);
}

// A run that continues to more steps has a later model; a folder that is nobody's model stays.
TEST_F(TrainFaults, TheModelIsThatOfTheLastStep) {
  run_well(small("whole"));
  const Strings part = {"--set", "train_steps=8", "--set", "lr_decay_steps=12"};
  run_well(small("a") + part);
  EXPECT_NE(weights("a"), weights("whole"));
  const std::string old = weights("a");
  for (const char* fault : {"rename:6:kill", "rename:7:kill"}) run(fault, small("a"));
  run_well(small("a"));
  expect_same_run("a", "whole");
  expect_tidy("a");
  run_well(small("a") + Strings{"--export-type", "bf16"});
  EXPECT_LT(weights("a").size(), 0.6 * static_cast<double>(old.size()));
  std::filesystem::create_directories(in("b/model/photos"));
  expect_failure(small("b"), {"b/model", "in the way"});
  EXPECT_TRUE(file_exists(in("b/model/photos")));
  EXPECT_FALSE(file_exists(in("b/metrics.jsonl")));
}

TEST_F(TrainFaults, AFolderIsWorkedInByOneRunAtATime) {
  run_well(small("a"));
  const FolderLock lock(in("a"));
  expect_failure(small("a"), {in("a"), "another process"});
}

// Values that are not numbers: the steps are left out, a checkpoint of such a run can be read, and the run
// does not continue for ever.
TEST_F(TrainFaults, ARunOfNothingButNansEndsWithAnError) {
  run_well(small("good"));
  std::string path = in("good") + "/model/model.safetensors", bytes = read_file(path);
  const float nan = std::nanf("");
  bytes.replace(bytes.size() - 4, 4, reinterpret_cast<const char*>(&nan), 4);
  put(path, bytes);
  std::string config = read_file(config_);
  for (const char* key : {"family", "n_layers", "hidden_size", "n_heads", "tokenizer"}) {
    const size_t at = config.find(std::string(key) + ":");
    config.erase(at, config.find('\n', at) + 1 - at);
  }
  config_ = write("from.yaml", config + "init_from: " + in("good") + "/model\n");
  for (int again = 0; again < 2; ++again) {
    EXPECT_EQ(shell().run("", train("nan")), 1);
    EXPECT_NE(shell().err().find("was not finite"), std::string::npos) << shell().err();
    EXPECT_TRUE(file_exists(checkpoint("nan", 14)));
    EXPECT_FALSE(file_exists(in("nan") + "/model"));
    const std::vector<Json> steps = trace("nan");
    ASSERT_EQ(steps.size(), 21U);  // including the first, for the given model
    EXPECT_EQ(steps[0]["step"], 0);
    for (size_t k = 1; k < steps.size(); ++k) EXPECT_TRUE(steps[k]["skipped"]);
  }
  EXPECT_NE(shell().err().find("continuing after step 14"), std::string::npos) << shell().err();
}

// An id that the model has no row for: in the held-out part it is found before anything is written, elsewhere
// when it is read, and the earlier checkpoints stay.
TEST_F(TrainFaults, IdsBeyondTheVocabularyAreFoundAndNothingIsLost) {
  const std::string good = read_file(in("text") + ".bin");
  const auto with_id = [&](size_t token) {
    std::string changed = good;
    changed[2 * token + 1] = 0x40;  // 16 thousand and more
    put(in("text") + ".bin", changed);
  };
  const size_t n = good.size() / 2;
  with_id(n - 100);
  const Strings all = small("a") + Strings{"--set", "eval_samples=1000"};
  expect_failure(all, {"text.bin", "outside", "another tokenizer"});
  EXPECT_FALSE(file_exists(in("a")));
  // In a sample of step 6.
  put(in("text") + ".bin", good);
  const Json samples =
      run_json({"inspect", "samples", "--config", config_, "--set", "save=x", "--samples", "24"});
  with_id(samples["samples"][22]["first"].get<size_t>() + 12);
  EXPECT_EQ(shell().run("", small("a")), 1);
  EXPECT_NE(shell().err().find("outside the model's vocabulary"), std::string::npos) << shell().err();
  EXPECT_EQ(trace("a").size(), 5U);
  EXPECT_TRUE(file_exists(checkpoint("a", 4)));
}

}  // namespace
}  // namespace sepllm::test
