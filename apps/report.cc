// sepllm report: shows training runs as a page of curves.
#include <fmt/format.h>

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "apps/pages/report_page.h"
#include "apps/shell/commands.h"
#include "apps/shell/output.h"
#include "base/error.h"
#include "base/file.h"
#include "base/output_place.h"

namespace sepllm {
namespace {

// Runs whose folders have the same name are distinguished by the paths that were given.
void name_apart(const std::vector<std::string>& folders, std::vector<RunRecord>* runs) {
  for (size_t i = 0; i < runs->size(); ++i) {
    bool alone = true;
    for (size_t k = 0; k < runs->size(); ++k) alone &= k == i || (*runs)[k].name != (*runs)[i].name;
    if (!alone) {
      const std::string name = (*runs)[i].name;
      for (size_t k = i; k < runs->size(); ++k) {
        if ((*runs)[k].name == name) (*runs)[k].name = folders[k];
      }
    }
  }
}

class ReportCommand : public Command {
 public:
  ReportCommand() {
    own_.add_strings("run", &folders_, "folder of a training run; several are shown side by side", "RUN")
        .takes_list = true;
    own_.add_string("out", &out_, "the page to write", "FILE").default_note =
        "report.html in the run's folder; for several runs, in the current folder";
    own_.add_flag("json", &json_,
                  "print the table as one JSON value on standard output; write a page only with --out");
  }
  std::string name() const override { return "report"; }
  std::string summary() const override { return "Show curves, figures and texts of training runs as a page"; }
  std::string usage() const override { return "RUN... [--out report.html] [--json]"; }
  std::vector<OptionGroup> groups() override { return {{"Options", &own_}}; }
  std::string positional() const override { return "run"; }

  int run() override {
    if (folders_.empty())
      throw Error(ErrorCode::kInvalidArgument, "no run given", {.expected = "a folder of a training run"});
    std::string out = out_;
    if (out.empty() && !json_) out = folders_.size() == 1 ? report_path(folders_[0]) : "report.html";
    const OutputPlace place(out_);
    std::vector<RunRecord> runs;
    for (const std::string& folder : folders_) runs.push_back(read_run(folder));
    name_apart(folders_, &runs);
    if (!out.empty()) write_file_atomically(out, report_page(runs));
    if (json_) {
      Json rows = Json::array();
      for (const RunRecord& run : runs) rows.push_back(summary_json(run));
      print_json(rows);
    } else {
      print(report_table(runs) + "\n" + out + "\n");
    }
    return 0;
  }

 private:
  OptionSet own_;
  std::vector<std::string> folders_;
  std::string out_;
  bool json_ = false;
};

}  // namespace

std::unique_ptr<Command> make_report_command() { return std::make_unique<ReportCommand>(); }

}  // namespace sepllm
