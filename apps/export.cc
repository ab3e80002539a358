// sepllm export: turns a checkpoint of a training run into a model, and a model into another kind of file.
#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "apps/shell/commands.h"
#include "apps/shell/common.h"
#include "apps/shell/output.h"
#include "base/error.h"
#include "base/file.h"
#include "base/output_place.h"
#include "checkpoint/gguf.h"
#include "engine/model_files.h"
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
    own_.add_string("model", &model_, "a model in place of a run: a folder or a GGUF file", "PATH");
    own_.add_choice("format", &format_, {"hf", "gguf"},
                    "what to write: a Hugging Face folder, or a GGUF file");
    own_.add_string("out", &out_, "the folder to write, which must be new or empty, or the GGUF file",
                    "PATH");
    own_.add_choice("type", &type_, weight_type_names(),
                    "type of the weights; a folder of a training run has floats only")
        .default_note = "f32 for a run; for a model as stored, as far as the format holds it";
    declare_threads_option(&own_, &threads_);
    own_.add_string("tokenizer", &tokenizer_, "folder or file of the tokenizer, if it has moved since",
                    "PATH");
    own_.add_flag("json", &json_, "print exactly one JSON value on standard output");
  }
  std::string name() const override { return "export"; }
  std::string summary() const override {
    return "Write a checkpoint of a training run, or a model, as a Hugging Face folder or in GGUF";
  }
  std::string usage() const override {
    return "(--run RUN [--step N] | --model M) [--format hf|gguf] --out O [--type T]";
  }
  std::vector<OptionGroup> groups() override { return {{"Options", &own_}}; }

  int run() override {
    if (run_.empty() == model_.empty())
      throw Error(ErrorCode::kInvalidArgument, run_.empty() ? "no run given" : "--run and --model given",
                  {.expected = "--run DIR or --model PATH"});
    if (out_.empty())
      throw Error(ErrorCode::kInvalidArgument, "no place to write to given", {.expected = "--out PATH"});
    const OutputPlace place(out_, is_gguf() ? OutputKind::kFile : OutputKind::kFolder);
    return model_.empty() ? export_run() : export_other();
  }

 private:
  bool is_gguf() const { return format_ == "gguf"; }

  int export_run() {
    const std::string path = own_.was_set("step") ? chosen() : newest();
    const ModelSpec spec = parse_model_spec(read_checkpoint_state(path).model_config, path);
    Parameters parameters(spec);
    const TrainState state = load_checkpoint_parameters(path, &parameters);
    if (is_gguf()) {
      // By way of a folder of floats next to it, which is removed.
      const AtomicFolder folder(out_ + ".folder");
      const std::string model = folder.path() + "/" + std::filesystem::path(out_).stem().string();
      export_model(state, parameters, model, {.type = DType::kF32, .tokenizer = tokenizer_});
      write_gguf(model, weight_type(type_).value_or(DType::kF32), "");
    } else {
      export_model(state, parameters, out_, {.type = float_type(), .tokenizer = tokenizer_});
    }
    if (json_) {
      print_json({{"step", state.step}, {"checkpoint", path}, {"model", out_}});
    } else {
      print(fmt::format("step {}: {}\n", state.step, out_));
    }
    return 0;
  }

  int export_other() {
    if (is_gguf()) {
      write_gguf(model_, weight_type(type_), tokenizer_);
    } else if (is_gguf_file(model_)) {
      ThreadPool pool(threads_or_default(threads_));
      write_folder_of(model_, {.type = weight_type(type_)}, out_, pool);
    } else {
      throw Error(
          ErrorCode::kInvalidArgument, "the model is a Hugging Face folder already",
          {.file = model_, .expected = "--format gguf", .hint = "`sepllm quantize` changes the type"});
    }
    if (json_) {
      print_json({{"model", out_}});
    } else {
      print(fmt::format("{}\n", out_));
    }
    return 0;
  }

  void write_gguf(const std::string& model, std::optional<DType> type, const std::string& tokenizer) const {
    ThreadPool pool(threads_or_default(threads_));
    write_gguf_of(model, {.type = type}, tokenizer, out_, pool);
  }

  DType float_type() const {
    const DType type = weight_type(type_).value_or(DType::kF32);
    if (!is_block_type(type)) return type;
    throw Error(ErrorCode::kInvalidArgument, "a run is exported as a folder of floats",
                {.expected = "--type f32, bf16 or f16",
                 .got = type_,
                 .hint = "`sepllm quantize` converts the folder, and --format gguf takes all types"});
  }

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
  std::string run_, model_, format_ = "hf", out_, type_, tokenizer_;
  int64_t step_ = 0, threads_ = 0;
  bool json_ = false;
};

}  // namespace

std::unique_ptr<Command> make_export_command() { return std::make_unique<ExportCommand>(); }

}  // namespace sepllm
