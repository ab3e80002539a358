// sepllm inspect cpu: what this processor has, which kernels follow from it, and how weights are read on it.
#include <cblas.h>
#include <fmt/format.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "apps/shell/commands.h"
#include "apps/shell/common.h"
#include "apps/shell/output.h"
#include "apps/shell/provenance.h"
#include "base/build_info.h"
#include "engine/walk_choice.h"
#include "engine/walk_file.h"
#include "kernels/cpu_features.h"
#include "kernels/cpu_limit.h"

namespace sepllm {
namespace {

std::string walk_text(const Walk& walk) {
  return fmt::format(
      "{} {}, {}", walk.streams, walk.streams == 1 ? "stream" : "streams",
      walk.ahead == 0 ? std::string("no fetch") : fmt::format("fetch {} bytes ahead", walk.ahead));
}

Json walk_json(const Walk& walk, double bytes_per_second) {
  return {{"streams", walk.streams}, {"ahead", walk.ahead}, {"bytes_per_second", bytes_per_second}};
}

// A labelled line; labels are longer here than in `inspect`.
std::string cpu_line(const std::string& label, const std::string& text) {
  return fmt::format("  {:<20}{}\n", label, text);
}

class InspectCpuCommand : public Command {
 public:
  InspectCpuCommand() { common_.declare(&common_options_, true); }
  std::string name() const override { return "inspect cpu"; }
  std::string summary() const override {
    return "Instruction sets, kernels, and the walks over weights with their rates";
  }
  std::string usage() const override { return "[--model M | --shape S] [--threads N] [--json]"; }
  std::vector<OptionGroup> groups() override { return {{"General", &common_options_}}; }

  int run() override {
    Json all = {{"program", provenance(common_.n_threads())},
                {"cpu_info", cpu_name()},
                {"instruction_sets", instruction_sets()},
                {"openblas", openblas_get_corename()},
                {"n_threads", common_.n_threads()}};
    const CpuLimit* limit = stated_cpu_limit();
    all["limit"] = limit != nullptr ? Json(limit->name) : Json();
    const WalkRules rules = walk_rules();
    all["walk_file"] = rules.file;
    if (!common_.model.empty() || !common_.shape.empty()) {
      all["chosen"] = choose(rules);
    }
    Json remembered = Json::array();
    const WalkFile file(rules.file, walk_machine());
    for (const MeasuredWalk& w : file.walks()) {
      remembered.push_back(walk_json(w.walk, w.bytes_per_second));
      remembered.back()["key"] = w.key;
    }
    all["remembered"] = remembered;
    print(common_.json ? json_line(all) : text(all));
    return 0;
  }

 private:
  // The walks of a model: as a run with it would choose them.
  Json choose(const WalkRules& rules) {
    Model model = common_.load();
    Runtime runtime(common_);
    Json out = Json::array();
    for (const ChosenWalk& c : choose_walks(runtime.context(), &model.decoder, rules)) {
      Json row = walk_json(c.walk, c.bytes_per_second);
      row["type"] = dtype_name(c.type);
      row["measured"] = Json::array();
      for (const WalkRate& rate : c.measured)
        row["measured"].push_back(walk_json(rate.walk, rate.bytes_per_second));
      out.push_back(std::move(row));
    }
    return out;
  }

  static std::string row_text(const Json& row) {
    return fmt::format("{}: {:.1f} GB/s", walk_text({row["streams"].get<int>(), row["ahead"].get<int>()}),
                       row["bytes_per_second"].get<double>() * 1e-9);
  }

  static std::string text(const Json& all) {
    std::string out = "Processor\n";
    out += cpu_line("name", all["cpu_info"].get<std::string>());
    out += cpu_line("instruction sets", all["instruction_sets"].get<std::string>());
    out += cpu_line("limit", all["limit"].is_null() ? "none (SEPLLM_CPU)" : all["limit"].get<std::string>());
    out += cpu_line("OpenBLAS kernels", all["openblas"].get<std::string>());
    out += cpu_line("threads", json_text(all["n_threads"]));
    if (all.contains("chosen")) {
      out += "\nHow this model's weights are read\n";
      if (all["chosen"].empty())
        out += cpu_line("all types", walk_text({}) + " (too few bytes, or SEPLLM_WALKS=off)");
      for (const Json& row : all["chosen"]) {
        out += cpu_line(row["type"].get<std::string>(),
                        row_text(row) + (row["measured"].empty() ? ", remembered" : ", measured now:"));
        for (const Json& tried : row["measured"]) out += cpu_line("", "  " + row_text(tried));
      }
    }
    out += "\nRemembered\n";
    const std::string file = all["walk_file"].get<std::string>();
    out += cpu_line("file", file.empty() ? "none: neither XDG_CACHE_HOME nor HOME is set" : file);
    for (const Json& row : all["remembered"]) out += cpu_line(row["key"].get<std::string>(), row_text(row));
    return out;
  }

  OptionSet common_options_;
  CommonOptions common_;
};

}  // namespace

std::unique_ptr<Command> make_inspect_cpu_command() { return std::make_unique<InspectCpuCommand>(); }

}  // namespace sepllm
