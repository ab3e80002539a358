// sepllm bench attention: time and memory of attention by a pattern, compared with dense attention and the
// rate of matrix products in the same run.
#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "apps/bench/bench_options.h"
#include "apps/bench/data/separators.h"
#include "apps/bench/pattern_operands.h"
#include "apps/bench/turns.h"
#include "apps/shell/commands.h"
#include "apps/shell/common.h"
#include "apps/shell/figures.h"
#include "apps/shell/output.h"
#include "apps/shell/provenance.h"
#include "base/error.h"
#include "kernels/machine_rates.h"
#include "text/separators.h"
#include "text/tokenizer.h"

namespace sepllm {
namespace {

using bench::AttentionPass;

const char* pass_name(AttentionPass pass) {
  return pass == AttentionPass::kForward ? "forward" : "forward+backward";
}

// One pattern to be measured, with its operands and results.
struct Candidate {
  explicit Candidate(Pattern p) : pattern(std::move(p)) {}
  Pattern pattern;
  Arena arena;  // separate, so that its size is what this pattern needs
};

class BenchAttentionCommand : public Command {
 public:
  BenchAttentionCommand() {
    shape_options_.add(list_option("tokens", &tokens_, 1, kMaxBenchTokens, "lengths of the sequence"));
    shape_options_.add_int("heads", &heads_, 1, 1024, "query heads");
    shape_options_.add_int("kv-heads", &kv_heads_, 1, 1024, "key/value heads").default_note =
        "the same as --heads";
    shape_options_.add_int("head-dim", &head_dim_, 1, 1024, "elements of a head");
    shape_options_.add_choice("layout", &layout_, {"rows", "heads"},
                              "operands: one row of all heads per token, as a model's projections write "
                              "them, or the rows of each kv head together");
    shape_options_.add_choice("pass", &pass_, {"forward", "backward", "both"},
                              "backward: forward + backward, as in training; both: one row for each");
    policy_options_.add_choice("policy", &policy_name_,
                               {"sep", "full", "sink", "fixed", "moba", "sep-moba", "nsa"},
                               "which keys attention keeps");
    policy_options_.add(
        list_option("window", &windows_, 1, int64_t{1} << 40, "sizes of the neighbouring window"));
    policy_options_.add_int("init", &policy_.init, 0, int64_t{1} << 40, "initial tokens", "A");
    policy_options_.add_int("interval", &policy_.interval, 1, int64_t{1} << 40,
                            "fixed: every k-th token is kept", "K");
    policy_options_.add_int("block-size", &policy_.block_size, 1, int64_t{1} << 40,
                            "moba, nsa: tokens of a block; sep-moba: the least number of them", "B");
    policy_options_.add_int(
        "blocks", &policy_.blocks, 1, int64_t{1} << 40,
        "moba, sep-moba, nsa: blocks that each query sees, including its own; at least 3 for nsa", "K");
    policy_options_.add_string("separators", &separators_,
                               "sep, sep-moba: which tokens of the book are separators: paper or text; with "
                               "--text also strings:S, ids:1,2,3",
                               "RULE");
    policy_options_.add_string("text", &text_, "separators of this text instead of the built-in book's",
                               "FILE");
    policy_options_.add_string("tokenizer", &tokenizer_, "tokenizer file or folder for --text", "FILE");
    run_options_.add_int("repeats", &repeats_, 1, 10000, "rounds; every figure is the median over them");
    run_options_.add_double("min-time", &min_time_, 0, 3600,
                            "shortest duration of a measurement, in seconds; calls are repeated to fill it");
    run_options_.add_flag("no-dense", &no_dense_, "do not measure dense attention, which takes longest");
    declare_threads_option(&run_options_, &common_.threads);
    run_options_.add_choice("attention-impl", &common_.attention, {"simd", "reference"},
                            "attention kernel: the fast one, or the plain one for comparison");
    run_options_.add_flag("json", &common_.json, "print exactly one JSON value on standard output");
  }
  std::string name() const override { return "bench attention"; }
  std::string summary() const override {
    return "Measure time and memory of attention, compared with dense attention";
  }
  std::string usage() const override {
    return "[--tokens 4096,8192] [--window 64] [--policy sep] [--threads N] [--pass both] [--json]";
  }
  std::vector<OptionGroup> groups() override {
    return {
        {"Shape", &shape_options_}, {"What attention keeps", &policy_options_}, {"Measuring", &run_options_}};
  }

  int run() override {
    finish_options();
    const std::vector<int64_t> separators = find_separators();
    Runtime runtime(common_);
    const Context context = runtime.context();
    const InterruptGuard guard;
    Json rows = Json::array();
    bool complete = true;
    {
      const std::vector<AttentionPass> passes = chosen_passes();
      const auto total = static_cast<int64_t>(tokens_.size() * passes.size());
      Progress progress("measuring", total);
      for (size_t i = 0; i < tokens_.size() && complete; ++i) {
        const bench::AttentionShape shape{tokens_[i], heads_, kv_heads_, head_dim_, layout_ == "heads"};
        bench::PatternOperands operands(shape, passes.back() == AttentionPass::kForwardBackward);
        for (size_t p = 0; p < passes.size() && complete; ++p) {
          progress.show(static_cast<int64_t>(i * passes.size() + p),
                        fmt::format("{} tokens, {}", tokens_[i], pass_name(passes[p])));
          complete = measure(context, shape, operands, passes[p], separators, guard, &rows);
        }
      }
    }
    if (!complete) print_note("interrupted; these are the rows so far");
    if (common_.json) {
      print_json(rows);
    } else {
      print(table(rows, context.pool.size()));
    }
    return 0;
  }

 private:
  void finish_options() {
    for (const PolicyKind kind : {PolicyKind::kFull, PolicyKind::kSep, PolicyKind::kSink, PolicyKind::kFixed,
                                  PolicyKind::kMoba, PolicyKind::kSepMoba, PolicyKind::kNsa}) {
      if (policy_name_ == policy_name(kind)) policy_.kind = kind;
    }
    const auto refuse = [&](const char* option) {
      if (!policy_options_.was_set(option)) return;
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("--{} does not apply to --policy {}", option, policy_name_));
    };
    if (!has_windows()) refuse("window");
    if (!policy_.has_windows()) refuse("init");
    if (policy_.kind == PolicyKind::kNsa) policy_.validate();
    if (policy_.kind != PolicyKind::kFixed) refuse("interval");
    if (!policy_.has_blocks()) {
      refuse("block-size");
      refuse("blocks");
    }
    if (!policy_.uses_separators()) {
      for (const char* option : {"separators", "text", "tokenizer"}) refuse(option);
    }
    if (text_.empty() != tokenizer_.empty()) {
      throw Error(ErrorCode::kInvalidArgument, "--text and --tokenizer go together",
                  {.expected = text_.empty() ? "--text FILE" : "--tokenizer FILE"});
    }
    if (!shape_options_.was_set("kv-heads")) kv_heads_ = heads_;
    if (heads_ % kv_heads_ != 0) {
      throw Error(ErrorCode::kInvalidArgument, "--kv-heads must divide --heads",
                  {.expected = fmt::format("a divisor of {}", heads_), .got = std::to_string(kv_heads_)});
    }
  }

  bool has_windows() const { return policy_.has_windows() || policy_.kind == PolicyKind::kNsa; }

  std::vector<AttentionPass> chosen_passes() const {
    if (pass_ == "forward") return {AttentionPass::kForward};
    if (pass_ == "backward") return {AttentionPass::kForwardBackward};
    return {AttentionPass::kForward, AttentionPass::kForwardBackward};
  }

  // Ascending positions up to the longest sequence; empty if the policy needs none.
  std::vector<int64_t> find_separators() const {
    if (!policy_.uses_separators()) return {};
    const int64_t n_tokens = *std::max_element(tokens_.begin(), tokens_.end());
    if (text_.empty()) return bench::book_separators(separators_, n_tokens);
    const auto tokenizer = load_tokenizer(tokenizer_);
    const TokenSet set = make_separators(*tokenizer, separators_, tokenizer->vocab_size(), false);
    const std::vector<int32_t> ids = tokenizer->encode(read_text(text_));
    if (n_tokens > static_cast<int64_t>(ids.size())) {
      throw Error(ErrorCode::kInvalidArgument, "--tokens does not fit the text",
                  {.file = text_,
                   .expected = fmt::format("at most {}", ids.size()),
                   .got = std::to_string(n_tokens)});
    }
    std::vector<int64_t> out;
    for (int64_t j = 0; j < n_tokens; ++j) {
      if (set.contains(ids[static_cast<size_t>(j)])) out.push_back(j);
    }
    return out;
  }

  // Made by the policy's own code, from tokens that are 1 for separators and 0 otherwise.
  Pattern pattern(int64_t window, int64_t n_tokens, const std::vector<int64_t>& separators) const {
    std::vector<int32_t> tokens(static_cast<size_t>(n_tokens), 0);
    for (const int64_t j : separators) {
      if (j < n_tokens) tokens[static_cast<size_t>(j)] = 1;
    }
    TokenSet set(2);
    set.insert(1);
    Policy policy = policy_;
    policy.window = window;
    return policy.pattern(tokens.data(), n_tokens, set, 0, 1);
  }

  // Measures the rows of one length and pass. False: interrupted, and nothing was added.
  bool measure(const Context& context, const bench::AttentionShape& shape, bench::PatternOperands& operands,
               AttentionPass pass, const std::vector<int64_t>& separators, const InterruptGuard& guard,
               Json* rows) const {
    const bool is_full = policy_.kind == PolicyKind::kFull;
    std::vector<std::unique_ptr<Candidate>> candidates;
    const std::vector<int64_t> windows = has_windows() ? windows_ : std::vector<int64_t>{kUnlimited};
    for (const int64_t window : windows) {
      candidates.push_back(std::make_unique<Candidate>(pattern(window, shape.tokens, separators)));
    }
    // Dense attention comes last; if it is the policy itself, it is measured only once.
    const bool has_dense = is_full || !no_dense_;
    if (!is_full && has_dense) candidates.push_back(std::make_unique<Candidate>(Pattern{}));

    std::vector<bench::Series> series;
    for (const auto& c : candidates) {
      const Context own{.pool = context.pool, .arena = c->arena, .attention = context.attention};
      series.push_back({bench::TimedCall(
          [&operands, own, pass, candidate = c.get()] { operands.run(own, candidate->pattern, pass); },
          min_time_)});
    }
    series.push_back({[&context] { return sgemm_flops(context); }});
    if (!bench::measure_in_turns(series, repeats_, [&] { return !guard.interrupted(); })) return false;

    const double sgemm = bench::median(series.back().values);
    std::optional<double> dense_seconds;
    if (has_dense) dense_seconds = bench::median(series[candidates.size() - 1].values);
    for (size_t i = 0; i < windows.size(); ++i) {
      Json row = row_head(shape, has_windows() ? Json(windows[i]) : Json(), context.pool.size(), pass);
      add_figures(shape, pass, candidates[i]->pattern, bench::median(series[i].values), dense_seconds, sgemm,
                  &row);
      row["peak_bytes"] = operands.bytes(pass) + candidates[i]->arena.reserved_bytes();
      rows->push_back(row);
    }
    return true;
  }

  Json row_head(const bench::AttentionShape& shape, const Json& window, int threads,
                AttentionPass pass) const {
    Json row = {{"policy", policy_name_},    {"tokens", shape.tokens},     {"window", window},
                {"heads", shape.heads},      {"kv_heads", shape.kv_heads}, {"head_dim", shape.head_dim},
                {"threads", threads},        {"pass", pass_name(pass)},    {"init", policy_.init},
                {"separators", separators_}, {"layout", layout_},          {"program", provenance(threads)}};
    if (!policy_.has_windows()) row["init"] = nullptr;
    if (!policy_.uses_separators()) row["separators"] = nullptr;
    if (policy_.has_blocks()) row["block_size"] = policy_.block_size;
    if (policy_.has_blocks()) row["blocks"] = policy_.blocks;
    if (policy_.kind == PolicyKind::kFixed) row["interval"] = policy_.interval;
    return row;
  }

  static void add_figures(const bench::AttentionShape& shape, AttentionPass pass, const Pattern& pattern,
                          double seconds, std::optional<double> dense_seconds, double sgemm, Json* row) {
    const int64_t pairs = pattern.visible_pairs(shape.tokens);
    const int64_t causal_pairs = shape.tokens * (shape.tokens + 1) / 2;
    const double kept = static_cast<double>(pairs) / static_cast<double>(causal_pairs);
    const double rate = attention_flops(shape, pairs, pass) / seconds;
    Json& out = *row;
    out["seconds"] = seconds;
    out["dense_seconds"] = dense_seconds ? Json(*dense_seconds) : Json();
    out["kept"] = kept;
    out["efficiency"] = dense_seconds ? Json(kept * *dense_seconds / seconds) : Json();
    out["gflops"] = rate * 1e-9;
    out["gemm_share"] = rate / sgemm;
    out["sgemm_gflops"] = sgemm * 1e-9;
  }

  std::string table(const Json& rows, int threads) const {
    std::string out = fmt::format("{} heads x {}, {} for keys and values, {} thread{}\n", heads_, head_dim_,
                                  kv_heads_, threads, threads == 1 ? "" : "s");
    out += fmt::format("{:<7}{:>8}{:>8}  {:<17}{:>11}{:>11}{:>8}{:>12}{:>9}{:>10}{:>12}\n", "policy",
                       "tokens", "window", "pass", "seconds", "dense", "kept", "efficiency", "GFLOP/s",
                       "of sgemm", "memory");
    const auto number = [](const Json& value, const char* format) {
      return value.is_null() ? std::string("-") : fmt::format(fmt::runtime(format), value.get<double>());
    };
    for (const Json& row : rows) {
      out += fmt::format("{:<7}{:>8}{:>8}  {:<17}{:>11}{:>11}{:>8}{:>12}{:>9}{:>10}{:>12}\n",
                         row["policy"].get<std::string>(), row["tokens"].get<int64_t>(),
                         row["window"].is_null() ? "-" : json_text(row["window"]),
                         row["pass"].get<std::string>(), number(row["seconds"], "{:.6f}"),
                         number(row["dense_seconds"], "{:.6f}"), number(row["kept"], "{:.4f}"),
                         number(row["efficiency"], "{:.3f}"), number(row["gflops"], "{:.1f}"),
                         number(row["gemm_share"], "{:.3f}"), human_bytes(row["peak_bytes"].get<int64_t>()));
    }
    return out;
  }

  OptionSet shape_options_, policy_options_, run_options_;
  CommonOptions common_;
  Policy policy_;
  std::vector<int64_t> tokens_ = {4096, 8192}, windows_ = {64};
  std::string layout_ = "rows";
  int64_t heads_ = 12, kv_heads_ = 12, head_dim_ = 64, repeats_ = 5;
  double min_time_ = 0.1;
  bool no_dense_ = false;
  std::string pass_ = "both", policy_name_ = "sep", separators_ = "paper", text_, tokenizer_;
};

}  // namespace

std::unique_ptr<Command> make_bench_attention_command() { return std::make_unique<BenchAttentionCommand>(); }

}  // namespace sepllm
