// sepllm inspect samples: shows which tokens a training run sees, in its order.
#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "apps/shell/commands.h"
#include "apps/shell/output.h"
#include "base/error.h"
#include "train/training_data.h"

namespace sepllm {
namespace {

class InspectSamplesCommand : public Command {
 public:
  InspectSamplesCommand() {
    own_.add_string("config", &config_, "YAML file of the run's settings", "FILE");
    own_.add_strings("set", &changes_, "settings that replace those of the file, as in seed=2", "KEY=VALUE");
    own_.add_int("samples", &samples_, 1, int64_t{1} << 40,
                 "number of samples shown, beginning with the first")
        .default_note = "those of one step; with --held-out, those of one validation";
    own_.add_flag("held-out", &held_out_, "show the samples of the validations");
    own_.add_flag("json", &json_, "print exactly one JSON value on standard output");
  }
  std::string name() const override { return "inspect samples"; }
  std::string summary() const override { return "Show which tokens a training run sees, in order"; }
  std::string usage() const override { return "--config run.yaml [--samples N] [--held-out] [--json]"; }
  std::vector<OptionGroup> groups() override { return {{"Options", &own_}}; }

  int run() override {
    if (config_.empty())
      throw Error(ErrorCode::kInvalidArgument, "no settings given", {.expected = "--config FILE"});
    const TrainConfig config = read_train_config(config_, changes_);
    const TrainingData data = open_training_data(config, INT32_MAX);
    if (held_out_ && data.held_out == nullptr) {
      throw Error(ErrorCode::kInvalidArgument, "nothing is held out",
                  {.file = config_, .expected = "valid_share or valid_data"});
    }
    show(config, held_out_ ? *data.held_out : *data.train);
    return 0;
  }

 private:
  void show(const TrainConfig& config, TokenData& data) const {
    const auto& sources = held_out_ && !config.valid_data.empty() ? config.valid_data : config.data;
    const int64_t usual =
        held_out_ ? std::min(config.eval_samples, data.n_samples()) : config.global_batch_size;
    const int64_t n = samples_ > 0 ? samples_ : usual;
    Sample sample;
    if (!json_) {
      for (int64_t i = 0; i < n; ++i) {
        data.next(&sample);
        print(fmt::format("{}: tokens {} to {} of {}, {} documents\n", i, sample.first,
                          sample.first + config.seq_length,
                          sources[static_cast<size_t>(sample.source)].prefix, sample.document_starts.size()));
      }
      return;
    }
    Json list = Json::array();
    for (int64_t i = 0; i < n; ++i) {
      data.next(&sample);
      list.push_back(
          {{"source", sample.source}, {"first", sample.first}, {"document_starts", sample.document_starts}});
    }
    Json names = Json::array();
    for (const TokenSource& s : sources) names.push_back(s.prefix);
    print_json({{"sources", names},
                {"seq_length", config.seq_length},
                {"samples_of_a_pass", data.n_samples()},
                {"samples", list}});
  }

  OptionSet own_;
  std::string config_;
  std::vector<std::string> changes_;
  int64_t samples_ = 0;
  bool held_out_ = false, json_ = false;
};

}  // namespace

std::unique_ptr<Command> make_inspect_samples_command() { return std::make_unique<InspectSamplesCommand>(); }

}  // namespace sepllm
