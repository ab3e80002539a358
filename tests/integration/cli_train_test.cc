// `sepllm train` with the real program: what a run writes, and wrong settings and data. For faults of the
// system see train_faults_test.cc.
#include <cmath>
#include <set>

#include "tests/support/train_run.h"

namespace sepllm::test {
namespace {

class Train : public TrainRun {};

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

// The trainer's held-out loss must equal what `score` computes for the same tokens and the exported model,
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

// From scratch and from a model without gates: the model's folder has them, held-out losses are those of
// `score` with the policy that the model carries, and a run in parts has the same bits.
TEST_F(Train, NativeSparseAttention) {
  const Strings nsa = {
      "--set", "family=llama", "--set", "n_heads=4",
      "--set", "n_kv_heads=2", "--set", "policy={policy: nsa, block-size: 3, blocks: 3, window: 4}"};
  const Json result = run_json(train("nsa", nsa));
  const std::vector<Json> whole = trace("nsa");
  EXPECT_LT(whole.back()["loss"].get<double>(), 0.75 * whole.front()["loss"].get<double>());
  const std::string model_folder = in("nsa") + "/model";
  EXPECT_EQ(parse_json(read_file(model_folder + "/config.json"), "config.json")["nsa_gates"], true);
  EXPECT_NE(weights("nsa").find("\"model.layers.1.self_attn.g_proj.weight\""), std::string::npos);
  Strings listing = train("nsa", nsa);
  listing.erase(listing.begin());
  const Json held_out = run_json(Strings{"inspect", "samples", "--held-out"} + listing);
  const TokenFile tokens(in("text"));
  double sum = 0;
  std::string ids_file;
  for (const Json& sample : held_out["samples"]) {
    std::vector<int32_t> ids(25);
    tokens.read(sample["first"], ids, 258);
    std::string text;
    for (const int32_t id : ids) text += std::to_string(id) + " ";
    ids_file = write("sample.ids", text);
    const Json score = run_json({"score", "--model", model_folder, "--ids", ids_file});
    EXPECT_EQ(score["policy"]["policy"], "nsa");
    sum += score["nll_mean"].get<double>();
  }
  EXPECT_NEAR(result["valid_loss"].get<double>(), sum / 8, 1e-5);

  for (const char* steps : {"5", "16", "30"}) {
    ASSERT_EQ(
        shell().run("", train("parts", nsa + Strings{"--set", std::string("train_steps=") + steps, "--set",
                                                     "lr_decay_steps=30", "--set", "threads=1"})),
        0)
        << shell().err();
  }
  EXPECT_EQ(weights("parts"), weights("nsa"));

  run_json(train("full", {"--set", "family=llama", "--set", "n_heads=4", "--set", "policy=full"}));
  const std::string full = in("full") + "/model";
  expect_failure({"score", "--model", full, "--ids", ids_file, "--policy", "nsa"}, {"no gates", "nsa"});
  const std::string settings = read_file(config_);
  config_ =
      write("later.yaml", settings.substr(settings.find("tokenizer:")));  // without those of a new model
  run_json(train("later", {"--set", "init_from=" + full, "--set",
                           "policy={policy: nsa, block-size: 3, window: 4}", "--set", "train_steps=3"}));
  EXPECT_NE(weights("later").find("g_proj"), std::string::npos);
  expect_failure(train("bad", {"--set", "init_from=" + full, "--set", "policy={policy: nsa, blocks: 2}"}),
                 {"blocks", ">= 3", "2"});
}

TEST_F(Train, TheRunsFolderIsCheckedBeforeTheModelAndTheDataAreRead) {
  const std::string plain = write("plain", "x");
  const Strings wrong = {"--set", "data=" + in("none"), "--set", "tokenizer=" + in("none")};
  expect_failure(train("", Strings{"--set", "save=" + plain + "/run"} + wrong), {plain + "/run"});
  expect_failure(train("", Strings{"--set", "save=/proc/none/run"} + wrong), {"/proc/none/run"});
  expect_failure(train("deep/er/run", wrong), {"none"});
  EXPECT_FALSE(file_exists(in("deep"))) << "of a run that failed before it began nothing remains";
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

// Texts belong to steps in the same way as losses: after an interruption none is lost or written twice, and
// they change nothing else.
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
  // Killed when the checkpoint of step 14 is about to get its name: steps up to there are repeated.
  ASSERT_EQ(shell().run(ShellRun::with_fault("rename:3:kill"), train("broken", samples)), 128 + SIGKILL);
  EXPECT_GT(trace("broken").back()["step"], 7);
  ASSERT_EQ(shell().run("", train("broken", samples)), 0) << shell().err();
  EXPECT_NE(shell().err().find("continuing after step 7"), std::string::npos) << shell().err();
  EXPECT_EQ(read_file(in("broken") + "/samples.jsonl"), texts);
  EXPECT_EQ(trace("broken"), trace("whole"));
}

// A given model is validated under the run's policy before the first step: this is the line of step 0, once,
// also after an interruption.
TEST_F(Train, AGivenModelIsValidatedBeforeItsFirstStep) {
  ASSERT_EQ(shell().run("", train("full", {"--set", "policy=full"})), 0) << shell().err();
  EXPECT_EQ(trace("full").front()["step"], 1);  // a new model is not validated
  std::string config = read_file(config_);
  config = "init_from: " + in("full/model") + "\n" + config.substr(config.find("tokenizer:"));
  const auto go_on = [&](const std::string& run, const std::string& policy, const std::string& fault = "") {
    const std::string file = write(run + ".yaml", config);
    return shell().run(fault, {"train", "--config", file, "--set", "save=" + in(run), "--set", policy});
  };
  ASSERT_EQ(go_on("same", "policy=full"), 0) << shell().err();
  ASSERT_EQ(go_on("sep", "policy.window=2"), 0) << shell().err();
  const double before = trace("full").back()["valid_loss"], same = trace("same").front()["valid_loss"],
               sep = trace("sep").front()["valid_loss"];
  EXPECT_EQ(trace("same").front()["step"], 0);
  EXPECT_EQ(trace("same").front()["tokens"], 0);
  EXPECT_NEAR(same, before, 1e-6 * before);
  EXPECT_GT(std::abs(sep - before), 1e-3);
  EXPECT_LT(trace("sep").back()["valid_loss"].get<double>(), sep);
  EXPECT_EQ(trace("sep").size(), 31U);
  EXPECT_NE(read_file(in("sep") + "/report.html").find("held out"), std::string::npos);
  // Killed before there is a checkpoint: the line must not be written twice.
  ASSERT_EQ(go_on("broken", "policy.window=2", ShellRun::with_fault("rename:2:kill")), 128 + SIGKILL);
  EXPECT_EQ(trace("broken").front()["step"], 0);
  ASSERT_EQ(go_on("broken", "policy.window=2"), 0) << shell().err();
  EXPECT_EQ(trace("broken"), trace("sep"));
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
  refuse({"--set", "policy.policy=sep-stream"}, {"do not stream"});
  refuse({"--set", "data=" + in("nothing")}, {"nothing.idx"});
  refuse({"--set", "seq_length=100000"}, {"sample"});
  refuse({"--set", "vocab_size=100"}, {"tokenizer", "100"});
  refuse({"--set", "tokenizer=" + in("nothing")}, {"nothing"});
  refuse({"--set", "n_heads=3"}, {"3"});
  refuse({"--set", "data=[{path: x, wait: 3}]"}, {"wait"});
  refuse({"--set", "data=7"}, {"data", "PREFIX", "7"});
  refuse({"--set", "data=" + in("text") + ".bin"}, {"text.bin.idx"});
  refuse({"--set", "valid_share=0.001"}, {"sample", "0.999"});
  refuse({"--set", "lr=nan"}, {"lr", "nan"});
  refuse({"--set", "lr=1e400"}, {"lr", "1e400"});
  refuse({"--set", "min_lr=1"}, {"min_lr", "larger"});
  refuse({"--set", "train_steps=99999999999999999999"}, {"train_steps"});
  refuse({"--set", "seq_length=24.5"}, {"seq_length", "24.5"});
  refuse({"--set", "hidden_size=15"}, {"15"});
  refuse({"--set", "policy.policy=sepp"}, {"sepp"});
  refuse({"--set", "policy.windw=3"}, {"windw", "window"});
  refuse({"--set", "policy.separators=ids:9999"}, {"9999"});
  refuse({"--set", "later_policy=full"}, {"later_policy_step"});
  // A setting that would do nothing.
  refuse({"--set", "n_kv_heads=1"}, {"n_kv_heads", "query heads"});
  refuse({"--set", "family=llama", "--set", "rotary_pct=0.5"}, {"rotary_pct", "llama rotates all"});
  refuse({"--set", "init_from=" + model()}, {"new models"});
  expect_failure({"train"}, {"--config"});
  expect_failure({"train", "--config", write("bad.yaml", "a: [1, 2")}, {"bad.yaml", "line"});
  expect_failure({"train", "--config", write("bad.yaml", "lr: 1\nlr: 2\n")}, {"bad.yaml", "twice"});
  expect_failure({"train", "--config", write("bad.yaml", "- 1\n")}, {"bad.yaml", "key: value"});
  expect_failure({"train", "--config", write("bad.yaml", "lr: &a [*a]\n")}, {"bad.yaml", "deeper"});
  expect_failure(train("text.bin/x"), {"text.bin/x", "folder"});
  // Another model or other data in the folder of a run.
  ASSERT_EQ(shell().run("", train("a", {"--set", "train_steps=2"})), 0);
  expect_failure(train("a", {"--set", "hidden_size=32"}),
                 {"another hidden_size", "16", "32", "step-000000002.ckpt"});
  expect_failure(train("a", {"--set", "n_heads=1"}), {"another n_heads", "1"});
  expect_failure(train("a", {"--set", "seq_length=32"}), {"another seq_length"});
  expect_failure(train("a", {"--set", "seed=2"}), {"another seed"});
  expect_failure(train("a", {"--set", "policy.window=7"}), {"another policy"});
  expect_failure(train("a", {"--set", "valid_share=0.2"}), {"another valid_share"});
  std::filesystem::copy_file(in("text.idx"), in("other.idx"));
  std::string bytes = read_file(in("text.bin"));
  bytes[0] = 'x';
  write_file_atomically(in("other.bin"), bytes);
  expect_failure(train("a", {"--set", "data=" + in("other")}), {"other data"});
  const Strings later = {"--set", "later_policy=full", "--set"};
  expect_failure(train("a", later + Strings{"later_policy_step=2"}), {"later_policy_step", "null", "2"});
}

// Changes everything at once that a run may change when it is continued.
TEST_F(Train, AFinishedRunGoesOnAndItsModelIsReplaced) {
  ASSERT_EQ(shell().run("", train("a", {"--set", "train_steps=10"})), 0) << shell().err();
  const std::string first = weights("a");
  // Unchanged: nothing to do, and nothing is written.
  ASSERT_EQ(shell().run("", train("a", {"--set", "train_steps=10"})), 0) << shell().err();
  EXPECT_EQ(weights("a"), first);
  std::filesystem::copy(in("text.bin"), in("moved.bin"));
  std::filesystem::copy(in("text.idx"), in("moved.idx"));
  const Strings more = {"--set", "train_steps=12",      "--set", "lr=2e-2",
                        "--set", "global_batch_size=8", "--set", "save_interval=2",
                        "--set", "eval_interval=3",     "--set", "micro_batch_size=4",
                        "--set", "weight_decay=0",      "--set", "threads=1",
                        "--set", "data=" + in("moved"), "--set", "later_policy=full",
                        "--set", "later_policy_step=12"};
  // A failure on the way leaves the old model intact: the last fsync of a file of the new one.
  for (int n = 1;; ++n) {
    const int code =
        shell().run(ShellRun::with_fault("fsync:" + std::to_string(n) + ":kill"), train("a", more));
    if (code == 0) break;
    ASSERT_EQ(code, 128 + SIGKILL);
    const Json facts = parse_json(read_file(in("a") + "/model/training.json"), "training.json");
    EXPECT_EQ(weights("a") == first, facts["step"] == 10) << n;
  }
  EXPECT_NE(weights("a"), first);
  const Json facts = parse_json(read_file(in("a") + "/model/training.json"), "training.json");
  EXPECT_EQ(facts["step"], 12);
  EXPECT_EQ(facts["tokens"], (10 * 4 + 2 * 8) * 24);
  const std::string card = read_file(in("a") + "/model/README.md");
  for (const char* part : {"from step 12 on", "| tokens | 1344 |", "held-out", "FLOPs"})
    EXPECT_NE(card.find(part), std::string::npos) << card;
  const Json config = parse_json(read_file(in("a") + "/model/config.json"), "config.json");
  EXPECT_EQ(config["sepllm"]["policy"], "full");
}

TEST_F(Train, KeepsTheLastCheckpointsAndMarkedOnes) {
  ASSERT_EQ(shell().run("", train("a", {"--set", "save_interval=3", "--set", "keep_last=3", "--set",
                                        "keep_every=6"})),
            0);
  std::vector<int64_t> steps;
  for (int64_t s = 0; s <= 30; ++s) {
    if (file_exists(in("a") + "/step-" + std::string(s < 10 ? "00000000" : "0000000") + std::to_string(s) +
                    ".ckpt"))
      steps.push_back(s);
  }
  EXPECT_EQ(steps, (std::vector<int64_t>{6, 12, 18, 24, 27, 30}));
}

TEST_F(Train, ThePolicyChangesAtItsStepAlsoAfterABreak) {
  const Strings full = {"--set", "policy=full"};
  const Strings later = full + Strings{"--set", "later_policy.policy=sep", "--set", "later_policy.window=6",
                                       "--set", "later_policy.init=2",     "--set", "later_policy_step=9"};
  ASSERT_EQ(shell().run("", train("full", full)), 0) << shell().err();
  ASSERT_EQ(shell().run("", train("later", later)), 0) << shell().err();
  const std::vector<Json> a = trace("full"), b = trace("later");
  for (size_t k = 0; k < a.size(); ++k) {
    SCOPED_TRACE(k + 1);
    const bool same = k + 1 < 9;
    EXPECT_EQ(b[k]["loss"] == a[k]["loss"], same);
    EXPECT_EQ(b[k]["visible_share"].get<double>() == 1.0, same);
    EXPECT_EQ(a[k]["visible_share"].get<double>(), 1.0);
  }
  // Interrupted after the checkpoint before the change, and after the next one.
  for (const char* when : {"rename:3:kill", "rename:4:kill"}) {
    std::filesystem::remove_all(in("broken"));
    ASSERT_EQ(shell().run(ShellRun::with_fault(when), train("broken", later)), 128 + SIGKILL);
    ASSERT_EQ(shell().run("", train("broken", later)), 0) << shell().err();
    EXPECT_NE(shell().err().find("continuing after step"), std::string::npos);
    EXPECT_EQ(trace("broken"), b);
  }
}

TEST_F(Train, ExportsACheckpoint) {
  ASSERT_EQ(shell().run("", train("a")), 0) << shell().err();
  const Json last = run_json({"export", "--run", in("a"), "--out", in("last")});
  EXPECT_EQ(last["step"], 30);
  for (const auto& file : std::filesystem::directory_iterator(in("a") + "/model"))
    EXPECT_EQ(read_file(in("last") + "/" + file.path().filename().string()), read_file(file.path()))
        << file.path();
  ASSERT_EQ(run_sepllm({"export", "--run", in("a"), "--step", "28", "--type", "bf16", "--out", in("before")})
                .exit_code,
            0);
  EXPECT_LT(read_file(in("before") + "/model.safetensors").size(), weights("a").size());
  EXPECT_EQ(
      run_json({"score", "--model", in("before"), "--text", write("t.txt", "abcdefg.")})["policy"]["window"],
      6);
  expect_failure({"export", "--run", in("a"), "--step", "5", "--out", in("none")}, {"28, 30", "5"});
  expect_failure({"export", "--run", in("a"), "--out", in("last")}, {"last", "already"});
  expect_failure({"export", "--run", in("nothing"), "--out", in("none")}, {"no checkpoint", "nothing"});
  expect_failure({"export", "--out", in("none")}, {"--run"});
  EXPECT_FALSE(file_exists(in("none")));
}

}  // namespace
}  // namespace sepllm::test
