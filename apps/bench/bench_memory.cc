// sepllm bench memory: how fast this machine reads memory, by number of threads.
#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "apps/bench/bench_options.h"
#include "apps/bench/turns.h"
#include "apps/shell/commands.h"
#include "apps/shell/common.h"
#include "apps/shell/figures.h"
#include "apps/shell/output.h"
#include "apps/shell/provenance.h"
#include "base/build_info.h"
#include "kernels/machine_rates.h"

namespace sepllm {
namespace {

class BenchMemoryCommand : public Command {
 public:
  BenchMemoryCommand() {
    declare_threads_option(&options_, &common_.threads, "maximum number of threads");
    options_.add_int("read-mib", &read_mib_, 1, 1 << 20, "size in MiB of the array that is read");
    options_.add_int("r", &repeats_, 1, 10000, "reads with each number of threads, in turns");
    options_.add_flag("json", &common_.json, "print exactly one JSON value on standard output");
  }
  std::string name() const override { return "bench memory"; }
  std::string summary() const override { return "Measure the read rate of memory by number of threads"; }
  std::string usage() const override { return "[--threads N] [-r 9] [--json]"; }
  std::vector<OptionGroup> groups() override { return {{"Measuring", &options_}}; }

  int run() override {
    const int n_threads = common_.n_threads();
    std::vector<std::unique_ptr<ThreadPool>> pools;
    pools.reserve(static_cast<size_t>(n_threads));
    for (int n = 1; n <= n_threads; ++n) pools.push_back(std::make_unique<ThreadPool>(n));
    Arena arena;
    ReadProbe probe({.pool = *pools.back(), .arena = arena}, read_mib_ << 20);
    std::vector<bench::Series> series;
    for (const auto& pool : pools) {
      series.push_back({[&arena, &probe, &pool] { return probe.measure({.pool = *pool, .arena = arena}); }});
    }
    const InterruptGuard guard;
    Json rows = Json::array();
    if (!bench::measure_in_turns(series, repeats_, [&] { return !guard.interrupted(); })) {
      print_note("interrupted; there are no figures yet");
    } else {
      for (size_t i = 0; i < series.size(); ++i)
        rows.push_back(row(static_cast<int>(i) + 1, probe,
                           probe.walk_for({.pool = *pools[i], .arena = arena}), series[i].values));
    }
    if (common_.json) {
      print_json(rows);
    } else {
      print(table(rows));
    }
    return 0;
  }

 private:
  static Json row(int n_threads, const ReadProbe& probe, const Walk& walk, const std::vector<double>& rates) {
    return {{"program", provenance(n_threads)},
            {"cpu_info", cpu_name()},
            {"n_threads", n_threads},
            {"bytes", probe.bytes()},
            {"streams", walk.streams},
            {"ahead", walk.ahead},
            {"read_bandwidth", *std::max_element(rates.begin(), rates.end())},
            {"median", bench::median(rates)},
            {"stddev", spread(rates).deviation},
            {"samples", rates},
            {"test_time", utc_now()}};
  }

  static std::string table(const Json& rows) {
    if (rows.empty()) return "";
    std::string out =
        fmt::format("{}, sums over {}, 4 streams per thread\n{:>8}{:>12}{:>12}{:>10}\n",
                    rows[0]["cpu_info"].get<std::string>(), human_bytes(rows[0]["bytes"].get<int64_t>()),
                    "threads", "best GB/s", "median", "+-", "streams", "ahead");
    for (const Json& row : rows) {
      out +=
          fmt::format("{:>8}{:>12.2f}{:>12.2f}{:>10.2f}{:>10}{:>8}\n", row["n_threads"].get<int>(),
                      row["read_bandwidth"].get<double>() * 1e-9, row["median"].get<double>() * 1e-9,
                      row["stddev"].get<double>() * 1e-9, row["streams"].get<int>(), row["ahead"].get<int>());
    }
    return out;
  }

  OptionSet options_;
  CommonOptions common_;
  int64_t read_mib_ = ReadProbe::kDefaultBytes >> 20, repeats_ = 9;
};

}  // namespace

std::unique_ptr<Command> make_bench_memory_command() { return std::make_unique<BenchMemoryCommand>(); }

}  // namespace sepllm
