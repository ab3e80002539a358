// sepllm bench decode, bench prefill: tokens per second at depths of a stream, next to the rate at which this
// machine reads memory in the same run.
#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "apps/bench/bench_options.h"
#include "apps/bench/speed_case.h"
#include "apps/bench/turns.h"
#include "apps/shell/commands.h"
#include "apps/shell/common.h"
#include "apps/shell/figures.h"
#include "apps/shell/memory_plan.h"
#include "apps/shell/output.h"
#include "apps/shell/provenance.h"
#include "base/build_info.h"
#include "base/error.h"
#include "base/log.h"
#include "kernels/machine_rates.h"

namespace sepllm {
namespace {

constexpr int64_t kMaxDepth = int64_t{1} << 30;
constexpr int64_t kReads = 5;  // at least this many reads; the best one counts

struct Measured {
  std::unique_ptr<SpeedCase> run;
  std::vector<double> seconds{};
  // the rate at which memory was read just before each of them, in bytes per second
  std::vector<double> rates{};
};

class BenchSpeedCommand : public Command {
 public:
  explicit BenchSpeedCommand(bool decode) : decode_(decode) {
    run_options_.add(
        list_option("d", &depths_, 0, kMaxDepth,
                    "depths: number of tokens in the stream before those that are measured; the cache is "
                    "filled directly with made-up keys and values, as the policy would hold them"));
    if (decode_) {
      run_options_.add_int("n", &n_, 1, kMaxBenchTokens,
                           "tokens in one repetition (for sep-stream whole cycles of compressions compare "
                           "best: 477 tokens unless its options are changed)");
    } else {
      run_options_.add(list_option("p", &prompts_, 1, kMaxBenchTokens, "lengths of the prompt"));
    }
    run_options_.add_int("r", &repeats_, 1, 10000, "repetitions, in turns with those of the other depths");
    run_options_.add_double("separator-share", &share_, 0, 1,
                            "share of separators among the made-up tokens (0.165 in books)");
    if (decode_) {
      run_options_.add_int("read-mib", &read_mib_, 1, 1 << 20,
                           "size in MiB of the array with which the read rate of memory is measured");
    }
    common_.declare(&common_options_, true);
  }
  std::string name() const override { return decode_ ? "bench decode" : "bench prefill"; }
  std::string summary() const override {
    return decode_ ? "Measure the speed of generating tokens at given depths of a stream"
                   : "Measure the speed of reading a prompt";
  }
  std::string usage() const override {
    return std::string("(--shape NAME | --model M) [--weights W] [--kv K] [--threads N] ") +
           (decode_ ? "[-n 64] " : "[-p 512] ") + "[-d 0,4096,65536] [policy] [--json]";
  }
  std::vector<OptionGroup> groups() override {
    return {{"Measuring", &run_options_},
            {"What the cache keeps", &policy_.options},
            {"General", &common_options_}};
  }

  int run() override {
    Model model = common_.load(&policy_);
    choose_separators(model, &policy_);
    Runtime runtime(common_, &model.decoder);
    const Context context = runtime.context();
    const InterruptGuard guard;
    check_memory(model);
    std::vector<Measured> cases = make_cases(model, context);
    const double best_rate = measure(context, guard, &cases);
    if (guard.interrupted()) print_note("interrupted; these are the repetitions so far");
    Json rows = Json::array();
    for (const Measured& m : cases) {
      if (!m.seconds.empty()) rows.push_back(row(model, context, m, best_rate));
    }
    if (common_.json) {
      print_json(rows);
    } else {
      print(table(rows));
    }
    return 0;
  }

 private:
  std::vector<int64_t> lengths() const { return decode_ ? std::vector<int64_t>{n_} : prompts_; }

  // Error if the caches do not fit, before memory is touched: the system may kill a program that asks for
  // more than there is.
  void check_memory(const Model& model) const {
    int64_t needed = decode_ ? read_mib_ << 20 : 0;
    for (const int64_t depth : depths_) {
      for (const int64_t n : lengths())
        needed += plan_memory(model, policy_.settings, depth + n, share_).kv_bytes;
    }
    const MemoryAtHand at_hand = memory_at_hand();
    const std::string hint = "fewer or smaller depths (-d), --kv f16, or a --policy that drops more";
    if (needed > at_hand.most) {
      throw Error(ErrorCode::kOutOfRange, "out of memory for the caches of all depths",
                  {.expected = "at most " + memory_text(at_hand),
                   .got = human_bytes(needed),
                   .hint = hint + "; " + memory_hint()});
    }
    if (needed <= at_hand.bytes) return;
    log_warning(
        fmt::format("{} for the caches of all depths are more than the available memory ({}), and what is "
                    "swapped is measured with it: {}",
                    human_bytes(needed), memory_text(at_hand), hint));
  }

  std::vector<Measured> make_cases(const Model& model, const Context& context) const {
    const MadeUpTokens tokens(model.separators(policy_.settings), model.config().vocab_size, share_);
    std::vector<Measured> cases;
    for (const int64_t depth : depths_) {
      for (const int64_t n : lengths()) {
        cases.push_back(
            {std::make_unique<SpeedCase>(model, policy_.settings, tokens, depth, n, decode_, context)});
      }
    }
    return cases;
  }

  // Measures until the end or Ctrl-C. Returns the best rate at which memory was read; 0: it was not measured.
  double measure(const Context& context, const InterruptGuard& guard, std::vector<Measured>* cases) const {
    std::unique_ptr<ReadProbe> probe;
    if (decode_) probe = std::make_unique<ReadProbe>(context, read_mib_ << 20);
    const auto n_cases = static_cast<int64_t>(cases->size());
    Progress progress("measuring", n_cases * repeats_);
    for (const Measured& m : *cases) {  // warms up caches, branch predictors and the pool
      if (guard.interrupted()) return 0;
      m.run->seconds(std::min<int64_t>(m.run->n_tokens(), decode_ ? 4 : 64));
    }
    double best = 0;
    const auto read = [&] {
      const double rate = probe->measure(context);
      best = std::max(best, rate);
      return rate;
    };
    for (int64_t r = 0; r < repeats_; ++r) {
      for (int64_t c = 0; c < n_cases; ++c) {
        if (guard.interrupted()) return best;
        Measured& m = (*cases)[static_cast<size_t>(c)];
        progress.show(r * n_cases + c, fmt::format("depth {}", m.run->depth()));
        if (probe) m.rates.push_back(read());
        m.seconds.push_back(m.run->seconds(m.run->n_tokens()));
      }
    }
    for (int64_t r = n_cases * repeats_; probe && r < kReads; ++r) read();
    return best;
  }

  Json row(const Model& model, const Context& context, const Measured& m, double best_rate) const {
    const SpeedCase& run = *m.run;
    std::vector<double> ts, ns;
    Json samples_ns = Json::array(), samples_ts = Json::array();
    for (const double s : m.seconds) {
      ns.push_back(s * 1e9);
      ts.push_back(static_cast<double>(run.n_tokens()) / s);
      samples_ns.push_back(static_cast<int64_t>(ns.back()));
      samples_ts.push_back(ts.back());
    }
    const ModelWeights& weights = model.decoder.weights();
    const std::string type = dtype_name(weights.layers[0].qkv[0].weight.type);
    const Json settings = policy_json(policy_.settings);
    const std::string kv = settings["kv"];
    const int64_t chunk = policy_.settings.prefill_chunk;
    Json out = {{"build_version", build_version()},
                {"build_commit", build_commit()},
                {"program", provenance(context.pool.size())},
                {"cpu_info", cpu_name()},
                {"backends", "CPU"},
                {"model_filename", model.name},
                {"model_type", model.name.substr(model.name.find_last_of('/') + 1) + " " + type},
                {"model_size", weight_bytes(weights)},
                {"model_n_params", parameter_count(weights)},
                {"weights", type},
                {"exact", common_.exact},
                {"n_batch", chunk},
                {"n_ubatch", chunk},
                {"n_threads", context.pool.size()},
                {"type_k", kv},
                {"type_v", kv},
                {"n_prompt", decode_ ? 0 : run.n_tokens()},
                {"n_gen", decode_ ? run.n_tokens() : 0},
                {"n_depth", run.depth()},
                {"test_time", utc_now()},
                {"avg_ns", static_cast<int64_t>(spread(ns).mean)},
                {"stddev_ns", static_cast<int64_t>(spread(ns).deviation)},
                {"avg_ts", spread(ts).mean},
                {"stddev_ts", spread(ts).deviation},
                {"samples_ns", samples_ns},
                {"samples_ts", samples_ts},
                {"median_ts", bench::median(ts)},
                {"policy", policy_name(policy_.settings.policy.kind)},
                {"policy_settings", settings},
                {"separator_share", share_},
                {"mean_keys", run.mean_keys()},
                {"kv_bytes", run.kv_bytes()}};
    if (!decode_) return out;
    const double bytes = static_cast<double>(multiplied_bytes(weights)) + run.kv_bytes_read();
    std::vector<double> shares;
    for (size_t i = 0; i < ts.size(); ++i) shares.push_back(bytes * ts[i] / m.rates[i]);
    out["bytes_per_token"] = static_cast<int64_t>(bytes);
    out["read_bandwidth"] = best_rate;
    out["bandwidth_share"] = bytes * bench::median(ts) / best_rate;
    out["bandwidth_share_in_turns"] = bench::median(shares);
    return out;
  }

  std::string table(const Json& rows) const {
    if (rows.empty()) return "";
    const Json& first = rows[0];
    const int threads = first["n_threads"].get<int>();
    std::string out =
        fmt::format("{}, {}, KV {}, policy {}, {} thread{}, {}", first["model_type"].get<std::string>(),
                    human_bytes(first["model_size"].get<int64_t>()), first["type_k"].get<std::string>(),
                    first["policy"].get<std::string>(), threads, threads == 1 ? "" : "s",
                    first["cpu_info"].get<std::string>());
    if (decode_) out += fmt::format(", reads {:.1f} GB/s", first["read_bandwidth"].get<double>() * 1e-9);
    out += fmt::format("\n{:>10}{:>12}{:>14}{:>10}{:>12}{:>12}", decode_ ? "tokens" : "prompt", "depth",
                       "tokens/s", "+-", "mean keys", "KV");
    out += decode_ ? fmt::format("{:>14}{:>10}\n", "of bandwidth", "in turns") : "\n";
    for (const Json& row : rows) {
      out += fmt::format("{:>10}{:>12}{:>14.2f}{:>10.2f}{:>12.1f}{:>12}",
                         row[decode_ ? "n_gen" : "n_prompt"].get<int64_t>(), row["n_depth"].get<int64_t>(),
                         row["median_ts"].get<double>(), row["stddev_ts"].get<double>(),
                         row["mean_keys"].get<double>(), human_bytes(row["kv_bytes"].get<int64_t>()));
      if (decode_) {
        out += fmt::format("{:>14.3f}{:>10.3f}", row["bandwidth_share"].get<double>(),
                           row["bandwidth_share_in_turns"].get<double>());
      }
      out += "\n";
    }
    return out;
  }

  const bool decode_;
  OptionSet run_options_, common_options_;
  PolicyOptions policy_;
  CommonOptions common_;
  std::vector<int64_t> depths_ = {0}, prompts_ = {512};
  int64_t n_ = 64, repeats_ = 5, read_mib_ = ReadProbe::kDefaultBytes >> 20;
  double share_ = kAssumedSeparatorShare;
};

}  // namespace

std::unique_ptr<Command> make_bench_decode_command() { return std::make_unique<BenchSpeedCommand>(true); }
std::unique_ptr<Command> make_bench_prefill_command() { return std::make_unique<BenchSpeedCommand>(false); }

}  // namespace sepllm
