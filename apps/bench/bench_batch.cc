// sepllm bench batch: the speed of several sequences that are decoded together, with the fields of
// llama.cpp's llama-batched-bench.
#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "apps/bench/batch_case.h"
#include "apps/bench/bench_options.h"
#include "apps/bench/turns.h"
#include "apps/shell/commands.h"
#include "apps/shell/common.h"
#include "apps/shell/figures.h"
#include "apps/shell/memory_plan.h"
#include "apps/shell/output.h"
#include "apps/shell/provenance.h"
#include "base/build_info.h"
#include "base/error.h"
#include "kernels/machine_rates.h"

namespace sepllm {
namespace {

constexpr int64_t kMostSequences = 1024;

class BenchBatchCommand : public Command {
 public:
  BenchBatchCommand() {
    run_options_.add(
        list_option("b", &batches_, 1, kMostSequences, "numbers of sequences that are decoded together"));
    run_options_.add(list_option("d", &depths_, 0, kMaxBenchTokens,
                                 "depths: tokens of each sequence before those that are measured; the caches "
                                 "are filled directly with made-up keys and values"));
    run_options_.add_int("p", &n_prompt_, 0, kMaxBenchTokens,
                         "tokens of each sequence's prompt, which is read in chunks");
    run_options_.add_int("n", &n_decoded_, 1, kMaxBenchTokens, "tokens that each sequence decodes");
    run_options_.add_int("r", &repeats_, 1, 10000, "repetitions, in turns with those of the other cases");
    run_options_.add_double("separator-share", &share_, 0, 1,
                            "share of separators among the made-up tokens (0.165 in books)");
    run_options_.add_int("read-mib", &read_mib_, 1, 1 << 20,
                         "size in MiB of the array with which the read rate of memory is measured");
    common_.declare(&common_options_, true);
  }
  std::string name() const override { return "bench batch"; }
  std::string summary() const override {
    return "Measure the speed of several sequences that are decoded together";
  }
  std::string usage() const override {
    return "(--shape NAME | --model M) [--weights W] [--kv K] [--threads N] [-b 1,2,4,8] [-d 8192] [-p 0] "
           "[-n 32] "
           "[policy] [--json]";
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
    check_memory(model);
    const InterruptGuard guard;
    const MadeUpTokens tokens(model.separators(policy_.settings), model.config().vocab_size, share_);
    const double read_rate = read_bandwidth(context, read_mib_ << 20);
    Json rows = Json::array();
    Progress progress("measuring", static_cast<int64_t>(depths_.size() * batches_.size()));
    for (const int64_t depth : depths_) {
      for (const int64_t n : batches_) {
        progress.show(static_cast<int64_t>(rows.size()), fmt::format("{} sequences, depth {}", n, depth));
        BatchCase one(model, policy_.settings, tokens, {n, depth, n_prompt_, n_decoded_}, context);
        std::vector<double> prompt, decode;
        for (int64_t r = -1; r < repeats_ && !guard.interrupted(); ++r) {
          const BatchCase::Seconds seconds = one.run();
          if (r < 0) continue;  // warms up caches, branch predictors and the pool
          prompt.push_back(seconds.prompt);
          decode.push_back(seconds.decode);
        }
        if (guard.interrupted()) break;
        rows.push_back(
            row(one, bench::median(prompt), bench::median(decode), read_rate, context.pool.size()));
      }
    }
    if (guard.interrupted()) print_note("interrupted; these are the rows so far");
    if (common_.json) {
      print_json(rows);
    } else {
      print(table(model, rows));
    }
    return 0;
  }

 private:
  // Error if the caches of the largest case do not fit, before memory is touched.
  void check_memory(const Model& model) const {
    const int64_t n = *std::max_element(batches_.begin(), batches_.end());
    const int64_t depth = *std::max_element(depths_.begin(), depths_.end());
    const int64_t needed =
        n * plan_memory(model, policy_.settings, depth + n_prompt_ + n_decoded_, share_).kv_bytes +
        (read_mib_ << 20);
    const MemoryAtHand at_hand = memory_at_hand();
    if (needed <= at_hand.most) return;
    throw Error(
        ErrorCode::kOutOfRange, "out of memory for the caches of all sequences",
        {.expected = "at most " + memory_text(at_hand),
         .got = human_bytes(needed),
         .hint = "fewer sequences (-b), smaller depths (-d), --kv f16, or a --policy that drops more; " +
                 memory_hint()});
  }

  Json row(const BatchCase& one, double prompt, double decode, double read_rate, int threads) const {
    const BatchShape& s = one.shape();
    const auto n = static_cast<double>(s.n_sequences);
    const double read = n * static_cast<double>(s.n_prompt), made = n * static_cast<double>(s.n_decoded);
    const double bytes = one.step_bytes();
    return {{"pp", s.n_prompt},
            {"tg", s.n_decoded},
            {"b", s.n_sequences},
            {"n_kv", s.n_sequences * (s.depth + s.n_prompt + s.n_decoded)},
            {"t_pp", prompt},
            {"s_pp", s.n_prompt == 0 ? 0 : read / prompt},
            {"t_tg", decode},
            {"s_tg", made / decode},
            {"t", prompt + decode},
            {"s", (read + made) / (prompt + decode)},
            {"n_depth", s.depth},
            {"policy", policy_name(policy_.settings.policy.kind)},
            {"policy_settings", policy_json(policy_.settings)},
            {"mean_keys", one.mean_keys()},
            {"kv_bytes", one.kv_bytes()},
            {"bytes_per_step", static_cast<int64_t>(bytes)},
            {"read_bandwidth", read_rate},
            {"bandwidth_share", bytes * static_cast<double>(s.n_decoded) / decode / read_rate},
            {"exact", common_.exact},
            {"program", provenance(threads)},
            {"cpu_info", cpu_name()}};
  }

  std::string table(const Model& model, const Json& rows) const {
    if (rows.empty()) return "";
    const Json& first = rows[0];
    std::string out =
        fmt::format("{}, KV {}, policy {}, {}, reads {:.1f} GB/s\n", model.name,
                    first["policy_settings"]["kv"].get<std::string>(), first["policy"].get<std::string>(),
                    first["cpu_info"].get<std::string>(), first["read_bandwidth"].get<double>() * 1e-9);
    out += fmt::format("{:>10}{:>8}{:>8}{:>6}{:>12}{:>10}{:>10}{:>10}{:>12}{:>12}{:>14}\n", "depth", "prompt",
                       "decoded", "B", "tokens held", "prompt/s", "tokens/s", "per seq.", "mean keys", "KV",
                       "of bandwidth");
    for (const Json& r : rows) {
      out += fmt::format("{:>10}{:>8}{:>8}{:>6}{:>12}{:>10.1f}{:>10.2f}{:>10.2f}{:>12.1f}{:>12}{:>14.3f}\n",
                         r["n_depth"].get<int64_t>(), r["pp"].get<int64_t>(), r["tg"].get<int64_t>(),
                         r["b"].get<int64_t>(), r["n_kv"].get<int64_t>(), r["s_pp"].get<double>(),
                         r["s_tg"].get<double>(), r["s_tg"].get<double>() / r["b"].get<double>(),
                         r["mean_keys"].get<double>(), human_bytes(r["kv_bytes"].get<int64_t>()),
                         r["bandwidth_share"].get<double>());
    }
    return out;
  }

  OptionSet run_options_, common_options_;
  PolicyOptions policy_;
  CommonOptions common_;
  std::vector<int64_t> batches_ = {1, 2, 4, 8}, depths_ = {0};
  int64_t n_prompt_ = 0, n_decoded_ = 32, repeats_ = 3, read_mib_ = ReadProbe::kDefaultBytes >> 20;
  double share_ = kAssumedSeparatorShare;
};

}  // namespace

std::unique_ptr<Command> make_bench_batch_command() { return std::make_unique<BenchBatchCommand>(); }

}  // namespace sepllm
