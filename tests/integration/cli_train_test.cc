// `sepllm train` with the real program: runs that are broken anywhere and go on with the same bits, settings
// and data that are wrong, the finished model.
#include <chrono>
#include <cmath>
#include <csignal>
#include <filesystem>
#include <map>
#include <random>
#include <set>
#include <sstream>

#include "base/file.h"
#include "tests/support/cli.h"
#include "tests/support/shell_run.h"
#include "train/token_file.h"

namespace sepllm::test {
namespace {

using Strings = std::vector<std::string>;

class Train : public RandomModelTest {
 protected:
  void SetUp() override {
    folder_ = file("train" + std::to_string(count_++));
    std::filesystem::create_directory(folder_);
    TokenFileWriter writer(in("text"), 258);
    std::mt19937 random(3);
    for (int document = 0; document < 30; ++document) {
      std::vector<int32_t> tokens;
      for (size_t i = 0; i < 100 + random() % 200; ++i)
        tokens.push_back(random() % 5 == 0 ? '.' : static_cast<int32_t>('a' + (i * i) % 7));
      writer.add(tokens);
      writer.end_document();
    }
    writer.finish();
    config_ = write("config.yaml",
                    "family: gpt_neox\nn_layers: 2\nhidden_size: 16\nn_heads: 2\n"
                    "tokenizer: " +
                        model() + "\ndata: " + in("text") +
                        "\nvalid_share: 0.1\nseq_length: 24\nglobal_batch_size: 4\n"
                        "micro_batch_size: 2\ntrain_steps: 30\nlr: 1e-2\nmin_lr: 1e-3\n"
                        "policy: {policy: sep, init: 2, window: 6}\nsave_interval: 7\n"
                        "eval_interval: 10\neval_samples: 8\nthreads: 2\n");
  }
  std::string in(const std::string& name) const { return folder_ + "/" + name; }
  Strings train(const std::string& run, const Strings& settings = {}) const {
    Strings out = {"train", "--config", config_, "--set", "save=" + in(run)};
    return out + settings;
  }
  ShellRun shell() const { return ShellRun(folder_); }

  // What a run has written of every step, without times.
  std::vector<Json> trace(const std::string& run) const {
    std::istringstream lines(read_file(in(run) + "/metrics.jsonl"));
    std::vector<Json> out;
    for (std::string line; std::getline(lines, line);) {
      out.push_back(parse_json(line, "metrics"));
      for (const char* time : {"seconds", "elapsed", "gemm_share"}) out.back().erase(time);
    }
    return out;
  }
  std::string weights(const std::string& run) const {
    return read_file(in(run) + "/model/model.safetensors");
  }

  std::string folder_, config_;
  static inline int count_ = 0;
};

TEST_F(Train, TheLossFallsAndTheModelIsReadByTheOtherCommands) {
  const Json result = run_json(train("a"));
  EXPECT_EQ(result["steps"], 30);
  const std::vector<Json> steps = trace("a");
  ASSERT_EQ(steps.size(), 30U);
  EXPECT_LT(steps.back()["loss"].get<double>(), 0.75 * steps.front()["loss"].get<double>());
  EXPECT_EQ(steps.back()["valid_loss"], result["valid_loss"]);
  EXPECT_EQ(steps.back()["tokens"], 30 * 4 * 24);
  const Json config = parse_json(read_file(in("a") + "/model/config.json"), "config.json");
  EXPECT_EQ(config["model_type"], "gpt_neox");
}

// What the trainer calls the held-out loss is what `score` says of the same tokens and the exported model,
// with the policy that the model carries.
TEST_F(Train, TheHeldOutLossIsThatOfScore) {
  for (const std::string family : {"gpt_neox", "llama"}) {
    const Strings settings = {"--set", "family=" + family};
    const Json result = run_json(train(family, settings));
    Strings listing = train(family, settings);
    listing.erase(listing.begin());
    const Json held_out = run_json(Strings{"inspect", "samples", "--held-out"} + listing);
    ASSERT_EQ(held_out["samples"].size(), 8U);  // eval_samples
    const TokenFile tokens(in("text"));
    double sum = 0;
    for (const Json& sample : held_out["samples"]) {
      std::vector<int32_t> ids(25);
      tokens.read(sample["first"], ids, 258);
      std::string text;
      for (const int32_t id : ids) text += std::to_string(id) + " ";
      const Json score =
          run_json({"score", "--model", in(family) + "/model", "--ids", write("sample.ids", text)});
      EXPECT_EQ(score["policy"]["policy"], "sep");
      EXPECT_EQ(score["policy"]["window"], 6);
      sum += score["nll_mean"].get<double>();
    }
    EXPECT_NEAR(result["valid_loss"].get<double>(), sum / 8, 1e-5);
  }
}

TEST_F(Train, SamplesAreListedInTheirOrder) {
  const auto list = [&](const Strings& more) {
    return run_json(Strings{"inspect", "samples", "--config", config_, "--set", "save=x"} + more)["samples"];
  };
  const TokenFile tokens(in("text"));
  const Json step = list({}), all = list({"--samples", "300"}), held_out = list({"--held-out"});
  ASSERT_EQ(step.size(), 4U);  // global_batch_size
  std::set<int64_t> first_pass;
  for (size_t i = 0; i < all.size(); ++i) {
    const auto first = all[i]["first"].get<int64_t>();
    EXPECT_EQ(first % 24, 0);
    if (i < 4) {
      EXPECT_EQ(all[i], step[i]);
    }
    if (!first_pass.insert(first).second) break;
    EXPECT_EQ(all[i]["document_starts"][0], 0);
    for (const Json& start : all[i]["document_starts"]) {
      if (start == 0) continue;
      const int64_t at = first + start.get<int64_t>();
      EXPECT_EQ(tokens.document_begin(tokens.document_of(at)), at);
    }
  }
  const int64_t samples = (tokens.n_tokens() - 1) / 24;
  EXPECT_EQ(static_cast<int64_t>(first_pass.size()), std::llround(0.9 * static_cast<double>(samples)));
  for (const Json& sample : held_out) EXPECT_GE(sample["first"].get<int64_t>(), *first_pass.rbegin() + 24);
  expect_failure(
      {"inspect", "samples", "--held-out", "--config", config_, "--set", "save=x", "--set", "valid_share=0"},
      {"held out"});
  expect_failure({"inspect", "samples"}, {"--config"});
}

TEST_F(Train, GoesOnWithTheSameBitsAndOnAnyThreads) {
  ASSERT_EQ(shell().run("", train("whole")), 0) << shell().err();
  const std::vector<Json> whole = trace("whole");
  for (const char* steps : {"1", "9", "14", "30"}) {
    // Shorter runs have another schedule of the learning rate unless it is given.
    ASSERT_EQ(shell().run("", train("parts", {"--set", std::string("train_steps=") + steps, "--set",
                                              "lr_decay_steps=30", "--set", "eval_interval=1000", "--set",
                                              std::string("threads=") + (steps[0] == '1' ? "1" : "3")})),
              0)
        << shell().err();
  }
  const std::vector<Json> parts = trace("parts");
  ASSERT_EQ(parts.size(), whole.size());
  for (size_t k = 0; k < whole.size(); ++k) {
    EXPECT_EQ(parts[k]["loss"], whole[k]["loss"]) << k;
    EXPECT_EQ(parts[k]["gradient_norm"], whole[k]["gradient_norm"]) << k;
  }
}

// At every write, fsync and rename there is.
TEST_F(Train, KilledAtAnyCallOfASave) {
  ASSERT_EQ(shell().run("", train("whole")), 0) << shell().err();
  int kills = 0;
  for (const char* call : {"write:%d:kill", "write:%d:half", "fsync:%d:kill", "rename:%d:kill"}) {
    for (int n = 1;; n += n < 6 ? 1 : 11) {
      SCOPED_TRACE(std::string(call) + " " + std::to_string(n));
      std::filesystem::remove_all(in("broken"));
      std::string fault = call;
      fault.replace(fault.find("%d"), 2, std::to_string(n));
      const int code = shell().run(ShellRun::with_fault(fault), train("broken"));
      if (code == 0) break;
      ASSERT_EQ(code, 128 + SIGKILL) << shell().err();
      ++kills;
      ASSERT_EQ(shell().run("", train("broken")), 0) << shell().err();
      EXPECT_EQ(trace("broken"), trace("whole"));
      EXPECT_EQ(weights("broken"), weights("whole"));
    }
  }
  EXPECT_GE(kills, 15);
}

// Five times in a row, each after a share of the time that the whole run takes: not enough to end it before.
TEST_F(Train, KilledAtRandomMomentsAgainAndAgain) {
  const Strings longer = {"--set", "train_steps=400", "--set", "save_interval=5", "--set", "eval_samples=2"};
  const auto start = std::chrono::steady_clock::now();
  ASSERT_EQ(shell().run("", train("whole", longer)), 0) << shell().err();
  const std::chrono::duration<double> whole = std::chrono::steady_clock::now() - start;
  std::mt19937 random(5);
  for (int kills = 0; kills < 5; ++kills) {
    const double seconds = whole.count() * (0.06 + 0.1 * static_cast<double>(random() % 100) / 100);
    const int code = shell().run("timeout -s KILL " + std::to_string(seconds), train("broken", longer));
    ASSERT_EQ(code, 128 + SIGKILL) << shell().err();
  }
  ASSERT_EQ(shell().run("", train("broken", longer)), 0) << shell().err();
  EXPECT_EQ(trace("broken"), trace("whole"));
  EXPECT_EQ(weights("broken"), weights("whole"));
}

TEST_F(Train, ATerminatedRunSavesAndGoesOn) {
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
  EXPECT_NE(shell().err().find("going on after step " + std::to_string(steps)), std::string::npos);
}

// Texts belong to steps as losses do: nothing is lost or there twice after a break, and they change nothing.
TEST_F(Train, WritesSamplesOfText) {
  const Strings samples = {"--set", "sample_interval=4", "--set", "sample_tokens=9",
                           "--set", "sample_prompt=ab"};
  ASSERT_EQ(shell().run("", train("plain")), 0) << shell().err();
  ASSERT_EQ(shell().run("", train("whole", samples)), 0) << shell().err();
  EXPECT_EQ(trace("whole"), trace("plain"));
  const std::string texts = read_file(in("whole") + "/samples.jsonl");
  EXPECT_EQ(std::count(texts.begin(), texts.end(), '\n'), 8);  // 4, 8, ... 28, and the last
  std::istringstream lines(texts);
  std::string line;
  std::getline(lines, line);
  const Json first = parse_json(line, "samples");
  EXPECT_EQ(first["step"], 4);
  EXPECT_EQ(first["text"].get<std::string>().substr(0, 2), "ab");
  EXPECT_GT(first["text"].get<std::string>().size(), 2U);
  EXPECT_NE(read_file(in("whole") + "/report.html").find("Samples of text"), std::string::npos);
  // Killed when the checkpoint of step 14 is about to take its name: steps up to there come again.
  ASSERT_EQ(shell().run(ShellRun::with_fault("rename:3:kill"), train("broken", samples)), 128 + SIGKILL);
  EXPECT_GT(trace("broken").back()["step"], 7);
  ASSERT_EQ(shell().run("", train("broken", samples)), 0) << shell().err();
  EXPECT_NE(shell().err().find("going on after step 7"), std::string::npos) << shell().err();
  EXPECT_EQ(read_file(in("broken") + "/samples.jsonl"), texts);
  EXPECT_EQ(trace("broken"), trace("whole"));
}

TEST_F(Train, TimeAddsUpOverTheParts) {
  const auto elapsed = [this] {
    std::vector<double> out;
    std::istringstream lines(read_file(in("a") + "/metrics.jsonl"));
    for (std::string line; std::getline(lines, line);) out.push_back(parse_json(line, "metrics")["elapsed"]);
    return out;
  };
  const Strings schedule = {"--set", "lr_decay_steps=30"};
  ASSERT_EQ(shell().run("", train("a", schedule + Strings{"--set", "train_steps=14"})), 0);
  const std::vector<double> before = elapsed();
  ASSERT_EQ(shell().run("", train("a", schedule)), 0) << shell().err();
  const std::vector<double> all = elapsed();
  ASSERT_EQ(all.size(), 30U);
  EXPECT_TRUE(std::equal(before.begin(), before.end(), all.begin()));
  EXPECT_TRUE(std::is_sorted(all.begin(), all.end()));
  EXPECT_GT(before[0], 0);
}

TEST_F(Train, AFullDiskIsReportedAndTheOldCheckpointStays) {
  ASSERT_EQ(shell().run("", train("a", {"--set", "train_steps=7", "--set", "lr_decay_steps=30"})), 0);
  const std::string old = in("a") + "/step-000000007.ckpt";
  const std::string before = read_file(old);
  for (const std::string& fault : {"write:2:" + std::to_string(ENOSPC), "fsync:2:" + std::to_string(EIO)}) {
    const int code = shell().run(ShellRun::with_fault(fault), train("a"));
    EXPECT_EQ(code, 1) << shell().err();
    EXPECT_NE(shell().err().find("sepllm: error: "), std::string::npos) << shell().err();
    EXPECT_EQ(read_file(old), before);
  }
  ASSERT_EQ(shell().run("", train("whole")), 0);
  std::filesystem::remove_all(in("a") + "/model");
  ASSERT_EQ(shell().run("", train("a")), 0) << shell().err();
  EXPECT_EQ(weights("a"), weights("whole"));
}

TEST_F(Train, ABrokenCheckpointIsPassedOverForTheOneBefore) {
  ASSERT_EQ(shell().run("", train("a")), 0);
  const std::vector<Json> whole = trace("a");
  const std::string newest = in("a") + "/step-000000030.ckpt";
  std::string bytes = read_file(newest);
  bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 1);
  write_file_atomically(newest, bytes);
  ASSERT_EQ(shell().run("", train("a")), 0) << shell().err();
  EXPECT_NE(shell().err().find("passed over"), std::string::npos);
  EXPECT_NE(shell().err().find("going on after step 28"), std::string::npos) << shell().err();
  EXPECT_EQ(trace("a"), whole);
}

TEST_F(Train, WrongSettingsAndDataAreClearErrors) {
  const auto refuse = [&](const Strings& settings, const Strings& parts) {
    SCOPED_TRACE(settings.back());
    expect_failure(train("none", settings), parts);
    EXPECT_FALSE(file_exists(in("none")));
  };
  refuse({"--set", "hiden_size=3"}, {"hiden_size", "hidden_size"});
  refuse({"--set", "lr=fast"}, {"lr", "fast"});
  refuse({"--set", "micro_batch_size=3"}, {"micro_batch_size", "divide"});
  refuse({"--set", "policy.window=0"}, {"window"});
  refuse({"--set", "policy.policy=sep-stream"}, {"static"});
  refuse({"--set", "data=" + in("nothing")}, {"nothing.idx"});
  refuse({"--set", "seq_length=100000"}, {"sample"});
  refuse({"--set", "vocab_size=100"}, {"tokenizer", "100"});
  refuse({"--set", "tokenizer=" + in("nothing")}, {"nothing"});
  refuse({"--set", "n_heads=3"}, {"3"});
  refuse({"--set", "data=[{path: x, wait: 3}]"}, {"wait"});
  expect_failure({"train"}, {"--config"});
  expect_failure({"train", "--config", write("bad.yaml", "a: [1, 2")}, {"bad.yaml", "line"});
  expect_failure({"train", "--config", write("bad.yaml", "lr: 1\nlr: 2\n")}, {"bad.yaml", "twice"});
  // Another model or other data in the folder of a run.
  ASSERT_EQ(shell().run("", train("a", {"--set", "train_steps=2"})), 0);
  expect_failure(train("a", {"--set", "hidden_size=32"}), {"another model"});
  expect_failure(train("a", {"--set", "seq_length=32"}), {"other data"});
}

}  // namespace
}  // namespace sepllm::test
