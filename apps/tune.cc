// sepllm tune: searches the policy that fits a model and a budget of keys or bytes.
#include <fmt/format.h>

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>

#include "apps/pages/tune_page.h"
#include "apps/shell/commands.h"
#include "apps/shell/common.h"
#include "apps/shell/figures.h"
#include "apps/shell/output.h"
#include "apps/shell/provenance.h"
#include "apps/tuning/tune_run.h"
#include "apps/tuning/tune_text.h"
#include "base/error.h"
#include "base/file.h"
#include "base/memory_at_hand.h"
#include "base/output_place.h"

namespace sepllm {
namespace {

// "25%" or "300".
void parse_keys(const std::string& text, TuneBudget* budget) {
  const bool share = text.ends_with('%');
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  const bool whole = end != text.c_str() && end == text.c_str() + text.size() - (share ? 1 : 0);
  if (!whole || !(value > 0) || !std::isfinite(value) || (share && value > 100))
    refuse_value("keys", "a share as in 25%, or a number of keys", text);
  (share ? budget->share : budget->keys) = share ? value / 100 : value;
}

// "64MiB", "64M" or a number of bytes.
int64_t budget_bytes(const std::string& text) {
  std::string number = text;
  if (number.ends_with("iB")) number.resize(number.size() - 2);
  const auto bytes = parse_bytes(number);
  if (!bytes || *bytes < 1) refuse_value("bytes", "a size as in 64MiB", text);
  return *bytes;
}

class TuneCommand : public Command {
 public:
  TuneCommand() {
    base_.prefill_chunk = PolicySettings().prefill_chunk;
    own_.add_strings("text", &cut_.files,
                     "text files like those that the model will read; the search measures on the first half, "
                     "the report "
                     "on the second")
        .takes_list = true;
    own_.add_string(
        "keys", &keys_,
        "budget: mean keys that a token looks at, as a share of full attention's (25%) or a number",
        "SHARE|N");
    own_.add_string("bytes", &bytes_, "budget: size of the KV cache after --context tokens, as in 64MiB",
                    "SIZE");
    own_.add_int("context", &cut_.context, 16, int64_t{1} << 20, "tokens of a piece of text").default_note =
        "2048, or what the model and the text allow";
    own_.add_int("search-tokens", &cut_.search_tokens, 16, int64_t{1} << 30,
                 "tokens on which the search measures each policy; at least one piece");
    own_.add_int("report-tokens", &cut_.report_tokens, 16, int64_t{1} << 30,
                 "tokens on which the report measures");
    own_.add_int("init", &base_.policy.init, 0, 1 << 20, "initial tokens, which are always kept", "A");
    own_.add_string("separators", &base_.separators, "which tokens are separators, as in `score`", "RULE");
    own_.add_string("out", &page_, "the HTML page to write", "FILE");
    own_.add_string("policy-out", &policy_out_,
                    "the JSON file to write the found policy to, which other commands read as --policy-file",
                    "FILE");
    declare_bos_option(&own_, &cut_.bos);
    common_.declare(&common_options_, true);
  }
  std::string name() const override { return "tune"; }
  std::string summary() const override {
    return "Find the policy that fits a model and a budget of keys or bytes";
  }
  std::string usage() const override {
    return "--model M --text F... (--keys 25% | --bytes 64MiB) [--out tune.html] [--policy-out policy.json] "
           "[--json]";
  }
  std::vector<OptionGroup> groups() override { return {{"Search", &own_}, {"General", &common_options_}}; }

  int run() override {
    if (cut_.files.empty())
      throw Error(ErrorCode::kInvalidArgument, "no text given", {.expected = "--text FILE"});
    const TuneBudget budget = read_budget();
    keep_apart({page_, policy_out_}, cut_.files);
    const OutputPlace page(page_), policy(policy_out_);
    const Model model = common_.load();
    const TuneTexts texts = cut_text(model, cut_);
    Runtime runtime(common_);
    const InterruptGuard guard;
    TuneReport report = search(model, runtime.context(), texts, budget, guard);
    if (report.interrupted)
      print_note("interrupted: this is the best policy so far, and some rows may be missing");
    write_results(model, texts, report);
    return 0;
  }

 private:
  TuneBudget read_budget() const {
    if (keys_.empty() && bytes_.empty())
      throw Error(ErrorCode::kInvalidArgument, "no budget given",
                  {.expected = "--keys 25% or --bytes 64MiB"});
    TuneBudget out;
    if (!keys_.empty()) parse_keys(keys_, &out);
    if (!bytes_.empty()) out.bytes = budget_bytes(bytes_);
    return out;
  }

  TuneReport search(const Model& model, const Context& context, const TuneTexts& texts,
                    const TuneBudget& budget, const InterruptGuard& guard) const {
    std::unique_ptr<Progress> progress;
    int64_t done = 0, most = 0;
    TuneEvents events;
    events.search.stop = [&] { return guard.interrupted(); };
    events.search.measured = [&](const std::string& what, double nll) {
      ++done;
      if (progress == nullptr) return;
      const std::string words = fmt::format("{}: perplexity {:.3f}", what, std::exp(nll));
      progress->show(done, words);
      constexpr int64_t kEvery = 20;  // measurements between lines in a log
      if (!progress->visible() && done % kEvery == 0)
        print_note(fmt::format("{} of at most {}: {}", done, most, words));
    };
    events.estimated = [&](double seconds, int64_t n) {
      print_note(fmt::format(
          "at most {} policies will be measured on {} tokens each, which takes up to {}; Ctrl-C ends "
          "the search with the best policy so far",
          n, texts.search.n_tokens(), duration_text(seconds)));
      most = n;
      progress = std::make_unique<Progress>("measuring policies", n);
    };
    events.phase = [&](const std::string& what) {
      print_note(fmt::format("{}{}", done > 0 ? fmt::format("[{} measured] ", done) : "", what));
    };
    // The file is written now, so that a second Ctrl-C loses only the report.
    events.found = [&](const PolicySettings& settings, bool interrupted) {
      if (!policy_out_.empty()) write_file_atomically(policy_out_, policy_text(settings));
      if (interrupted)
        print_note(
            "interrupted: the best policy so far is measured for the report; Ctrl-C again ends without it");
    };
    return tune(model, context, texts, base_, budget, events);
  }

  std::string budget_words() const {
    std::string out;
    if (!keys_.empty())
      out = keys_.ends_with('%') ? keys_ + " of the keys of full attention" : keys_ + " keys per token";
    if (!bytes_.empty()) out += (out.empty() ? "" : " and ") + bytes_ + " of memory for keys and values";
    return out;
  }

  static std::string policy_text(const PolicySettings& settings) {
    return json_text(Json{{"sepllm", policy_json(settings)}}, 2) + "\n";
  }

  static Json row_json(const TuneRow& row) {
    const char* kRoles[] = {"full", "fixed", "found", "other budget"};
    return {{"role", kRoles[static_cast<int>(row.role)]},
            {"name", row.policy.name},
            {"perplexity", row.perplexity()},
            {"nll_mean", row.nll},
            {"mean_keys", row.cost.mean_keys},
            {"share", row.cost.share},
            {"kv_bytes", row.cost.bytes},
            {"seconds", row.seconds},
            {"nll_to_best_fixed", row.to_best_fixed.mean},
            {"standard_error", row.to_best_fixed.standard_error},
            {"policy", policy_json(row.policy.settings)}};
  }

  static std::string table(const TuneReport& report) {
    std::string out = fmt::format("{:<44}{:>11}{:>11}{:>9}{:>11}  {}\n", "policy (unseen text)", "perplexity",
                                  "mean keys", "of full", "KV cache", "loss to best of one rule");
    for (const TuneRow& row : report.rows) {
      const std::string mark = row.role == TuneRow::Role::kFound ? "* " : "  ";
      out += fmt::format("{:<44}{:>11.4f}{:>11.1f}{:>8.1f}%{:>11}  {:+.4f} +- {}\n", mark + row.policy.name,
                         row.perplexity(), row.cost.mean_keys, 100 * row.cost.share,
                         human_bytes(row.cost.bytes), row.to_best_fixed.mean, row.to_best_fixed.error_text());
    }
    return out;
  }

  void write_results(const Model& model, const TuneTexts& texts, const TuneReport& report) const {
    const Json object = policy_json(report.found.policy.settings);
    const TunePage page{.model = common_.model,
                        .texts = cut_.files,
                        .budget = budget_words(),
                        .context = texts.context,
                        .n_layers = model.config().n_layers,
                        .search_tokens = texts.search.n_tokens(),
                        .report_tokens = texts.report.n_tokens(),
                        .policy_file = policy_out_,
                        .policy = object,
                        .program = provenance(common_.n_threads())};
    write_file_atomically(page_, tune_page(page, report));
    if (common_.json) {
      Json rows = Json::array(), effects = Json::array();
      for (const TuneRow& row : report.rows) rows.push_back(row_json(row));
      for (const LayerEffect& e : report.effects)
        effects.push_back({{"layer", e.layer}, {"full", e.full}, {"narrow", e.narrow}, {"other", e.other}});
      print_json({{"context", texts.context},
                  {"search_tokens", texts.search.n_tokens()},
                  {"report_tokens", texts.report.n_tokens()},
                  {"measured", report.n_measured()},
                  {"interrupted", report.interrupted},
                  {"sepllm", object},
                  {"rows", rows},
                  {"layers", effects},
                  {"out", page_},
                  {"policy_out", policy_out_},
                  {"program", page.program}});
      return;
    }
    print(table(report));
    print(fmt::format("\n\"sepllm\": {}\nwritten: {}{}\n", json_text(object), page_,
                      policy_out_.empty() ? "" : ", " + policy_out_));
  }

  OptionSet own_, common_options_;
  CommonOptions common_;
  PolicySettings base_;
  TuneCut cut_{.search_tokens = 4096, .report_tokens = 8192};
  std::string keys_, bytes_, page_ = "tune.html", policy_out_;
};

}  // namespace

std::unique_ptr<Command> make_tune_command() { return std::make_unique<TuneCommand>(); }

}  // namespace sepllm
