// sepllm export: turns a checkpoint of a training run into a model.
#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "apps/shell/commands.h"
#include "apps/shell/common.h"
#include "apps/shell/output.h"
#include "base/error.h"
#include "base/output_place.h"
#include "model/config.h"
#include "train/export_model.h"
#include "train/train_state.h"

namespace sepllm {
namespace {

class ExportCommand : public Command {
 public:
  ExportCommand() {
    own_.add_string("run", &run_, "folder of the training run", "DIR");
    own_.add_int("step", &step_, 0, INT64_MAX, "the checkpoint of this step").default_note =
        "the newest intact one";
    own_.add_string("out", &out_, "the folder to write, which must be new or empty", "DIR");
    own_.add_choice("type", &type_, {"f32", "bf16", "f16"}, "type of the weights");
    own_.add_string("tokenizer", &tokenizer_, "folder or file of the tokenizer, if it has moved since",
                    "PATH");
    own_.add_flag("json", &json_, "print exactly one JSON value on standard output");
  }
  std::string name() const override { return "export"; }
  std::string summary() const override {
    return "Write a checkpoint of a training run as a Hugging Face folder";
  }
  std::string usage() const override { return "--run RUN [--step N] --out DIR [--type bf16]"; }
  std::vector<OptionGroup> groups() override { return {{"Options", &own_}}; }

  int run() override {
    if (run_.empty()) throw Error(ErrorCode::kInvalidArgument, "no run given", {.expected = "--run DIR"});
    if (out_.empty())
      throw Error(ErrorCode::kInvalidArgument, "no folder to write given", {.expected = "--out DIR"});
    const OutputPlace place(out_, OutputKind::kFolder);
    const std::string path = own_.was_set("step") ? chosen() : newest();
    const ModelSpec spec = parse_model_spec(read_checkpoint_state(path).model_config, path);
    Parameters parameters(spec);
    const TrainState state = load_checkpoint_parameters(path, &parameters);
    export_model(state, parameters, out_, {.type = *weight_type(type_), .tokenizer = tokenizer_});
    if (json_) {
      print_json({{"step", state.step}, {"checkpoint", path}, {"model", out_}});
    } else {
      print(fmt::format("step {}: {}\n", state.step, out_));
    }
    return 0;
  }

 private:
  std::string chosen() const {
    const std::vector<int64_t> steps = checkpoint_steps(run_);
    if (std::find(steps.begin(), steps.end(), step_) != steps.end()) return checkpoint_path(run_, step_);
    throw Error(ErrorCode::kNotFound, "no checkpoint of this step",
                {.file = run_,
                 .expected = fmt::format("one of {}", fmt::join(steps, ", ")),
                 .got = std::to_string(step_)});
  }

  // The same choice that a continued run would make.
  std::string newest() const {
    std::vector<int64_t> steps = checkpoint_steps(run_);
    for (; !steps.empty(); steps.pop_back()) {
      const std::string path = checkpoint_path(run_, steps.back());
      try {
        read_checkpoint_state(path);
        return path;
      } catch (const Error& e) {
        if (steps.size() == 1 || e.code() == ErrorCode::kUnsupported) throw;
        print_note(fmt::format("skipped: {}", e.marked_text()));
      }
    }
    throw Error(ErrorCode::kNotFound, "no checkpoint here", {.file = run_});
  }

  OptionSet own_;
  std::string run_, out_, type_ = "f32", tokenizer_;
  int64_t step_ = 0;
  bool json_ = false;
};

}  // namespace

std::unique_ptr<Command> make_export_command() { return std::make_unique<ExportCommand>(); }

}  // namespace sepllm
