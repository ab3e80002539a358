// sepllm quantize: converts a model's folder to 8- or 4-bit weights, or to another float type.
#include "model/quantize.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "apps/shell/commands.h"
#include "apps/shell/common.h"
#include "apps/shell/figures.h"
#include "apps/shell/output.h"
#include "base/error.h"
#include "base/output_place.h"
#include "checkpoint/gguf.h"
#include "engine/model_files.h"

namespace sepllm {
namespace {

class QuantizeCommand : public Command {
 public:
  QuantizeCommand() {
    own_.add_string("model", &model_,
                    "the model: a folder (config.json, safetensors, tokenizer) or a GGUF file", "PATH");
    own_.add_choice("type", &type_, weight_type_names(),
                    "type of the matrices; with a type of 4 bits the token embedding and the head get q8_0");
    own_.add_string(
        "out", &out_,
        "the folder to write, which must be new or empty; or a GGUF file, if the name ends in .gguf", "PATH");
    declare_threads_option(&own_, &threads_);
    own_.add_flag("json", &json_, "print exactly one JSON value on standard output");
  }
  std::string name() const override { return "quantize"; }
  std::string summary() const override {
    return "Write a model with weights of another type, such as 8 or 4 bits";
  }
  std::string usage() const override { return "--model M --type " + types() + " --out O [--json]"; }
  std::vector<OptionGroup> groups() override { return {{"Options", &own_}}; }

  int run() override {
    require(model_, "no model given", "--model PATH");
    require(type_, "no type given", "--type " + types());
    require(out_, "no folder or file to write given", "--out PATH");
    const OutputPlace place(out_, is_gguf_name(out_) ? OutputKind::kFile : OutputKind::kFolder);
    const auto start = std::chrono::steady_clock::now();
    const QuantizeReport report = quantize();
    const std::chrono::duration<double> time = std::chrono::steady_clock::now() - start;
    if (json_) {
      print_json({{"model", model_},
                  {"out", out_},
                  {"type", type_},
                  {"tensors", report.n_tensors},
                  {"converted", report.n_converted},
                  {"padded", report.n_padded},
                  {"bytes_before", report.bytes_before},
                  {"bytes_after", report.bytes_after},
                  {"seconds", time.count()}});
      return 0;
    }
    print(fmt::format("{}: {} of {} tensors, {} before, {} after, {:.1f} s\n", type_, report.n_converted,
                      report.n_tensors, human_bytes(report.bytes_before), human_bytes(report.bytes_after),
                      time.count()));
    if (report.n_padded > 0) {
      print_note(
          fmt::format("note: the rows of {} matrices are not a multiple of {} long; their last blocks are "
                      "filled up with zeros",
                      report.n_padded, block_elements(*weight_type(type_))));
    }
    return 0;
  }

 private:
  static std::string types() { return fmt::format("{}", fmt::join(weight_type_names(), "|")); }
  static void require(const std::string& value, const char* message, const std::string& expected) {
    if (value.empty()) throw Error(ErrorCode::kInvalidArgument, message, {.expected = expected});
  }

  QuantizeReport quantize() const {
    ThreadPool pool(threads_or_default(threads_));
    const InterruptGuard guard;
    Progress progress("quantizing", 100);
    const CopyOptions options{.type = weight_type(type_), .progress = [&](int64_t done, int64_t total) {
                                progress.show(total > 0 ? done * 100 / total : 100);
                                return !guard.interrupted();
                              }};
    if (is_gguf_name(out_)) return write_gguf_of(model_, options, "", out_, pool);
    if (is_gguf_file(model_)) return write_folder_of(model_, options, out_, pool);
    return quantize_model(model_, *options.type, out_, pool, options.progress);
  }

  OptionSet own_;
  std::string model_, type_, out_;
  int64_t threads_ = 0;
  bool json_ = false;
};

}  // namespace

std::unique_ptr<Command> make_quantize_command() { return std::make_unique<QuantizeCommand>(); }

}  // namespace sepllm
