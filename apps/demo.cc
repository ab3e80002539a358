// sepllm demo: runs one model under every policy and shows a table and a page.
#include <fmt/format.h>
#include <stdlib.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <system_error>
#include <vector>

#include "apps/pages/demo_page.h"
#include "apps/shell/commands.h"
#include "apps/shell/common.h"
#include "apps/shell/output.h"
#include "apps/shell/provenance.h"
#include "base/error.h"
#include "base/file.h"
#include "base/output_place.h"
#include "model/random_model.h"

namespace sepllm {
namespace {

namespace fs = std::filesystem;

// A folder that is removed with its content at the end.
class TemporaryModel {
 public:
  TemporaryModel() {
    std::string pattern = fs::temp_directory_path() / "sepllm-demo-XXXXXX";
    if (::mkdtemp(pattern.data()) == nullptr) throw Error(ErrorCode::kIo, "cannot make a temporary folder");
    path_ = pattern;
    write_random_model(path_, {});
  }
  ~TemporaryModel() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  TemporaryModel(const TemporaryModel&) = delete;
  TemporaryModel& operator=(const TemporaryModel&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// The embedded model of the repository, which the demo uses.
constexpr const char* kModel = "models/sepllm-5m";
constexpr const char* kText = "apps/alice.txt";

struct Choice {
  std::string model, title, note;
};

class DemoCommand : public Command {
 public:
  DemoCommand() {
    own_.add_string("out", &out_, "the HTML page to write", "FILE");
    own_.add_string("text", &text_, "text file to score", "FILE").default_note = "the beginning of a book";
    common_.declare(&common_options_, true);
  }
  std::string name() const override { return "demo"; }
  std::string summary() const override {
    return "Score and generate with one model under every policy (default: the embedded one)";
  }
  std::string usage() const override { return "[MODEL] [--text F] [--out demo.html] [--json]"; }
  std::string positional() const override { return "model"; }
  std::vector<OptionGroup> groups() override { return {{"Demo", &own_}, {"General", &common_options_}}; }

  int run() override {
    keep_apart({out_}, {text_});
    const OutputPlace place(out_);
    const Choice choice = choose();
    const Model model = load(choice);
    Runtime runtime(common_);
    const Context context = runtime.context();
    DemoPlan plan;
    plan.settings = demo_settings(model);
    const std::string source = read_stream(model, &plan);
    choose_lengths(model, context, &plan);
    for (const PolicySettings& settings : plan.settings)
      check_cache_fits(model, settings, {.certain = plan.fed(plan.common_tokens)}, memory_at_hand());
    const std::vector<int32_t> prompt(plan.ids.begin(), plan.ids.begin() + plan.prompt_tokens);
    DemoReport report{
        .model = fmt::format("{} ({}, {} parameters, {} positions)", choice.title, model.config().family,
                             parameter_count(model.decoder.weights()), model.config().max_positions),
        .note = choice.note,
        .text = source,
        .positions = model.config().max_positions,
        .stretch = plan.stretch,
        .common_tokens = plan.common_tokens,
        .prompt_tokens = plan.prompt_tokens,
        .prompt = model.tokenizer == nullptr ? "" : model.tokenizer->decode(prompt),
        .kv_bytes_per_token = 0,
        .rows = {},
        .program = provenance(common_.n_threads())};
    {
      Progress progress("demo", static_cast<int64_t>(plan.settings.size()));
      report.rows = run_demo(model, plan, context, [&](size_t done, const std::string& policy) {
        progress.show(static_cast<int64_t>(done), policy);
      });
    }
    // The first policy is full attention, which gives the cost of a token.
    report.kv_bytes_per_token = report.rows.front().longest_kv.full_bytes / plan.fed(plan.common_tokens);
    write_file_atomically(out_, demo_page(report));
    if (common_.json) {
      print_json(demo_json(report));
    } else {
      print(demo_table(report) + fmt::format("\nPlots: {}\n", out_));
    }
    return 0;
  }

 private:
  // The model of --model or --shape if one was given, else the embedded model.
  Choice choose() {
    if (!common_.shape.empty())
      return {"", common_.shape, "the weights are random, so perplexities and texts mean nothing"};
    if (!common_.model.empty()) return {common_.model, common_.model, ""};
    if (const auto embedded = repository_file(kModel)) return {*embedded, kModel, ""};
    random_model_.emplace();
    return {random_model_->path(), "a tiny model with random weights",
            "the weights are random and were made just now: perplexities and texts mean nothing, but keys "
            "and bytes do"};
  }

  Model load(const Choice& choice) const {
    if (choice.model.empty()) return common_.load();
    CommonOptions chosen = common_;
    chosen.model = choice.model;
    return chosen.load();
  }

  // Reads the text's ids, beginning with BOS if the model has one; returns the text's source.
  std::string read_stream(const Model& model, DemoPlan* plan) const {
    std::string file = text_, source = text_;
    if (file.empty()) {
      const std::optional<std::string> at_hand = repository_file(kText);
      if (!at_hand) {
        throw Error(ErrorCode::kNotFound, "no text found",
                    {.expected = fmt::format("--text FILE, or {} above the program's folder", kText)});
      }
      file = *at_hand;
      source = "Alice's Adventures in Wonderland, chapters I and II";
    }
    plan->ids = model.encode(read_text(file), "auto");
    const std::optional<int32_t> bos = model.bos_id();
    plan->has_bos = !plan->ids.empty() && bos && plan->ids.front() == *bos;
    if (plan->ids.size() < 16) {
      throw Error(ErrorCode::kInvalidArgument, "too little text",
                  {.file = file, .expected = "at least 16 tokens", .got = std::to_string(plan->ids.size())});
    }
    return source;
  }

  // Chooses as much text as the policies need to show their difference, in some seconds each.
  static void choose_lengths(const Model& model, const Context& context, DemoPlan* plan) {
    constexpr double kSecondsEach = 8;
    const int64_t available = static_cast<int64_t>(plan->ids.size()) - (plan->has_bos ? 1 : 0);
    const int64_t limit = model.config().max_positions;
    if (limit < 16) {
      throw Error(ErrorCode::kUnsupported, "too few positions to show anything",
                  {.expected = "a model of at least 16 positions", .got = std::to_string(limit)});
    }
    const int64_t trial = std::min<int64_t>({available, limit - 1, 64});
    Session session(model, plan->settings.front(), context);
    const double speed =
        score(session, std::span(plan->ids).first(static_cast<size_t>(trial)), plan->has_bos, {})
            .tokens_per_second();
    const int64_t affordable = std::max<int64_t>(trial, static_cast<int64_t>(kSecondsEach * speed));
    plan->common_tokens = std::min({available, limit - (plan->has_bos ? 1 : 0), affordable});
    plan->long_tokens = std::max(plan->common_tokens, std::min({available, 8 * limit, affordable}));
    // Whole chunks, so that the memory's curve does not end with a small one.
    const int64_t chunk = plan->settings.front().prefill_chunk;
    const int64_t whole = plan->fed(plan->long_tokens) / chunk * chunk - plan->fed(0);
    plan->long_tokens = std::max(plan->common_tokens, whole);
    plan->new_tokens = std::min<int64_t>(48, std::max<int64_t>(1, limit / 4));
    plan->prompt_tokens = std::min<int64_t>(plan->common_tokens / 2, 512);
    plan->stretch = std::max<int64_t>(2, limit / 2);
  }

  OptionSet own_, common_options_;
  CommonOptions common_;
  std::optional<TemporaryModel> random_model_;
  std::string out_ = "demo.html", text_;
};

}  // namespace

std::unique_ptr<Command> make_demo_command() { return std::make_unique<DemoCommand>(); }

}  // namespace sepllm
