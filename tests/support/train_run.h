// Shared by the tests of `sepllm train`: a small run with gradient accumulation, and what it writes.
#pragma once

#include <filesystem>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "base/file.h"
#include "tests/support/cli.h"
#include "tests/support/shell_run.h"
#include "train/token_file.h"

namespace sepllm::test {

using Strings = std::vector<std::string>;

class TrainRun : public RandomModelTest {
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
                        "eval_interval: 10\neval_samples: 8\nthreads: 2\ncompute: f32\n");
  }
  std::string in(const std::string& name) const { return folder_ + "/" + name; }
  Strings train(const std::string& run, const Strings& settings = {}) const {
    Strings out = {"train", "--config", config_, "--set", "save=" + in(run)};
    return out + settings;
  }
  ShellRun shell() const { return ShellRun(folder_); }

  // What a run has written for every step, without times.
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

}  // namespace sepllm::test
