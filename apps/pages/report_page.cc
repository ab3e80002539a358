#include "apps/pages/report_page.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "apps/pages/html_page.h"
#include "apps/pages/report_plots.h"
#include "apps/pages/svg_plot.h"
#include "apps/shell/figures.h"
#include "base/file.h"

namespace sepllm {
namespace {

constexpr const char* kReportStyle = R"(
td i, th i { display: inline-block; width: 10px; height: 10px; border-radius: 5px; margin-right: 8px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(132px, 1fr)); gap: 10px; margin: 14px 0; }
.tiles .card { padding: 8px 12px; font-size: 17px; font-variant-numeric: tabular-nums; white-space: nowrap; }
.tiles span { display: block; color: var(--muted); font-size: 12.5px; }
details { margin: 12px 0; } summary { cursor: pointer; color: var(--muted); font-size: 13.5px; margin-bottom: 8px; }
.samples { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(420px, 100%), 1fr)); gap: 16px; }
.samples h3 { font-size: 14px; margin: 0 0 8px; } .samples p { font-size: 14px; margin: 0; white-space: pre-wrap;
  overflow-wrap: anywhere; } .samples p b { display: block; font-weight: 600; color: var(--muted); font-size: 12.5px;
  margin-top: 12px; } .samples p b:first-child { margin-top: 0; }
td.setting { text-align: left; white-space: normal; overflow-wrap: anywhere; max-width: 300px; }
)";

// "-" for unknown values.
std::string figure(const char* form, double value) {
  return std::isfinite(value) ? fmt::format(fmt::runtime(form), value) : "-";
}

std::string steps_text(const RunRecord& run, const RunSummary& s) {
  const Json target = run.settings.is_object() ? run.settings.value("train_steps", Json()) : Json();
  if (!target.is_number_integer() || target.get<int64_t>() == s.steps) return std::to_string(s.steps);
  return fmt::format("{} of {}", s.steps, target.get<int64_t>());
}

std::string policy_text(const RunRecord& run) {
  if (!run.settings.is_object()) return "-";
  const auto name = [&run](const char* key) -> std::string {
    const Json policy = run.settings.value(key, Json());
    if (!policy.is_object() || !policy.contains("policy") || !policy["policy"].is_string()) return "";
    std::string out = policy["policy"].get<std::string>();
    if (policy.contains("window") && out != "full") out += " " + json_text(policy["window"]);
    return out;
  };
  const std::string first = name("policy"), later = name("later_policy");
  return later.empty() ? (first.empty() ? "-" : first) : first + ", then " + later;
}

const std::vector<std::string>& summary_columns() {
  static const std::vector<std::string> kColumns = {
      "run",  "parameters", "policy",   "steps",   "tokens",   "FLOPs",   "for attention", "time",
      "loss", "held out",   "its best", "visible", "tokens/s", "of GEMM", "skipped"};
  return kColumns;
}

std::vector<std::string> summary_cells(const RunRecord& run) {
  const RunSummary s = summarise(run);
  const double flops = s.dense_flops + s.attention_flops;
  return {run.name,
          counted(static_cast<double>(run.parameters)),
          policy_text(run),
          steps_text(run, s),
          counted(static_cast<double>(s.tokens)),
          flops > 0 ? fmt::format("{:.2e}", flops) : "-",
          flops > 0 ? fmt::format("{:.1f} %", 100 * s.attention_flops / flops) : "-",
          s.steps > 0 ? duration_text(s.seconds) : "-",
          figure("{:.4f}", s.loss),
          figure("{:.4f}", s.valid_loss),
          figure("{:.4f}", s.best_valid_loss),
          figure("{:.1f} %", 100 * s.visible_share),
          counted(s.tokens_per_second),
          figure("{:.0f} %", 100 * s.gemm_share),
          std::to_string(s.skipped)};
}

std::string colour_dot(size_t index) {
  return fmt::format("<i style=\"background:var(--c{})\"></i>", run_colour(index));
}

std::string run_cell(const std::string& name, size_t index) {
  return "<td>" + colour_dot(index) + html_escape(name) + "</td>";
}

// The summary: tiles for one run, a table with a column for each of several.
std::string summary_html(const std::vector<RunRecord>& runs) {
  const std::vector<std::string>& names = summary_columns();
  std::vector<std::vector<std::string>> cells;
  for (const RunRecord& run : runs) cells.push_back(summary_cells(run));
  std::string out;
  if (runs.size() == 1) {
    out = "<div class=\"tiles\">\n";
    for (size_t c = 1; c < names.size(); ++c)
      out += fmt::format("<div class=\"card\"><span>{}</span>{}</div>\n", names[c], html_escape(cells[0][c]));
    out += "</div>\n";
  } else {
    out = "<div class=\"card scroll\"><table><tr><th></th>";
    for (size_t r = 0; r < runs.size(); ++r)
      out += fmt::format("<th>{}{}</th>", colour_dot(r), html_escape(cells[r][0]));
    out += "</tr>\n";
    for (size_t c = 1; c < names.size(); ++c) {
      out += "<tr><td>" + names[c] + "</td>";
      for (const auto& column : cells) out += "<td>" + html_escape(column[c]) + "</td>";
      out += "</tr>\n";
    }
    out += "</table></div>\n";
  }
  return out +
         "<p class=\"note\">Losses are the negative log-likelihood per token, with the natural logarithm; "
         "the training loss is "
         "smoothed. Visible is the share of the keys that full attention would see. Tokens/s and the share "
         "of "
         "the machine's rate of matrix products are medians over steps.</p>\n";
}

// What each run needed to reach the lowest loss that all of them reach.
std::string same_loss_html(const std::vector<RunRecord>& runs) {
  const auto goal = common_loss(runs);
  if (runs.size() < 2 || !goal) return "";
  std::string out = fmt::format(
      "<h2>Cost of the same loss</h2>\n<p class=\"note\">What each run had spent when its {} loss first was "
      "{:.4f} or "
      "less, which is the lowest loss that all of them reach.</p>\n<div class=\"card scroll\"><table "
      "class=\"wide\"><tr><th>run</th>"
      "<th>step</th><th>tokens</th><th>FLOPs</th><th>time</th><th>FLOPs / first run</th><th>time / first "
      "run</th></tr>\n",
      goal->held_out ? "held-out" : "smoothed training", goal->loss);
  std::optional<StepMetrics> first;
  for (size_t r = 0; r < runs.size(); ++r) {
    const StepMetrics m = first_below(runs[r], *goal);
    if (!first) first = m;
    const double flops = m.dense_flops + m.attention_flops;
    const double flops_ratio = flops / (first->dense_flops + first->attention_flops);
    const double time_ratio = m.elapsed / first->elapsed;
    out += fmt::format("<tr>{}<td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>\n",
                       run_cell(runs[r].name, r), m.step, counted(static_cast<double>(m.tokens)),
                       figure("{:.2e}", flops), duration_text(m.elapsed), figure("{:.3f}", flops_ratio),
                       figure("{:.3f}", time_ratio));
  }
  return out + "</table></div>\n";
}

// Settings by name; members of groups as "policy.window".
std::vector<std::pair<std::string, std::string>> flat_settings(const Json& settings) {
  std::vector<std::pair<std::string, std::string>> out;
  if (!settings.is_object()) return out;
  for (const auto& [key, value] : settings.items()) {
    if (value.is_object()) {
      for (const auto& [inner, inner_value] : value.items())
        out.emplace_back(key + "." + inner, json_text(inner_value));
    } else {
      out.emplace_back(key, json_text(value));
    }
  }
  return out;
}

std::string setting_of(const std::vector<std::pair<std::string, std::string>>& settings,
                       const std::string& key) {
  for (const auto& [name, value] : settings) {
    if (name == key) return value;
  }
  return "-";
}

std::string settings_html(const std::vector<RunRecord>& runs) {
  std::vector<std::vector<std::pair<std::string, std::string>>> all;
  std::vector<std::string> keys;
  for (const RunRecord& run : runs) {
    all.push_back(flat_settings(run.settings));
    for (const auto& [key, value] : all.back()) {
      if (std::find(keys.begin(), keys.end(), key) == keys.end()) keys.push_back(key);
    }
  }
  std::string differing, alike;
  for (const std::string& key : keys) {
    std::set<std::string> values;
    std::string row = "<tr><td><code>" + html_escape(key) + "</code></td>";
    for (const auto& settings : all) {
      values.insert(setting_of(settings, key));
      if (runs.size() > 1) row += "<td class=\"setting\">" + html_escape(setting_of(settings, key)) + "</td>";
    }
    if (values.size() > 1) {
      differing += row + "</tr>\n";
    } else {
      alike += fmt::format("<tr><td><code>{}</code></td><td class=\"setting\">{}</td></tr>\n",
                           html_escape(key), html_escape(*values.begin()));
    }
  }
  if (keys.empty()) return "";
  std::string out = "<h2>Settings</h2>\n";
  if (runs.size() > 1) {
    out += "<div class=\"card scroll\"><table><tr><th>different</th>";
    for (const RunRecord& run : runs)
      out += "<th style=\"text-align:left\">" + html_escape(run.name) + "</th>";
    out += "</tr>\n" + differing + "</table></div>\n";
  }
  return out +
         fmt::format(
             "<details><summary>{} settings{}</summary><div class=\"card scroll\"><table>{}</table></div>"
             "</details>\n",
             std::count(alike.begin(), alike.end(), '\n'), runs.size() > 1 ? " that are the same" : "",
             alike);
}

// The last text of a run, and before it up to five from earlier steps.
std::string samples_html(const std::vector<RunRecord>& runs) {
  constexpr size_t kShown = 6;
  std::string cards;
  for (size_t r = 0; r < runs.size(); ++r) {
    const std::vector<TextSample>& samples = runs[r].samples;
    if (samples.empty()) continue;
    cards += fmt::format("<div class=\"card\">{}<p>",
                         runs.size() > 1 ? "<h3>" + html_escape(runs[r].name) + "</h3>" : "");
    const size_t n = std::min(kShown, samples.size());
    for (size_t i = 0; i < n; ++i) {
      const TextSample& s = samples[n == 1 ? samples.size() - 1 : i * (samples.size() - 1) / (n - 1)];
      cards += fmt::format("<b>step {}</b>{}", s.step, html_escape(s.text));
    }
    cards += "</p></div>\n";
  }
  return cards.empty() ? "" : "<h2>Samples of text</h2>\n<div class=\"samples\">\n" + cards + "</div>\n";
}

std::string warnings_html(const std::vector<RunRecord>& runs) {
  std::string out;
  for (const RunRecord& run : runs) {
    if (run.unreadable_lines > 0)
      out += fmt::format("<p><b>{}: {} lines could not be read and were left out.</b></p>\n",
                         html_escape(run.name), run.unreadable_lines);
    if (run.steps.empty())
      out += fmt::format("<p>{}: no step has finished yet.</p>\n", html_escape(run.name));
  }
  return out;
}

}  // namespace

std::string report_page(const std::vector<RunRecord>& runs) {
  const std::string title =
      runs.size() == 1 ? "Training run: " + runs[0].name : fmt::format("{} training runs", runs.size());
  std::string body = warnings_html(runs) + summary_html(runs);
  body += report_plots(runs) + same_loss_html(runs) + samples_html(runs) + settings_html(runs);
  for (const RunRecord& run : runs) body += provenance_html(run.program);
  return html_page(title, std::string(kPlotStyle) + kReportStyle, body);
}

std::string report_table(const std::vector<RunRecord>& runs) {
  std::vector<std::vector<std::string>> rows = {summary_columns()};
  for (const RunRecord& run : runs) rows.push_back(summary_cells(run));
  std::string out;
  // Fields are below each other and runs side by side, so the table is only as wide as the number of runs
  // requires.
  std::vector<size_t> widths;
  for (const auto& row : rows) {
    size_t width = 0;
    for (const std::string& cell : row) width = std::max(width, cell.size());
    widths.push_back(width);
  }
  for (size_t c = 0; c < rows[0].size(); ++c) {
    out += fmt::format("{:<{}}", rows[0][c], widths[0]);
    for (size_t r = 1; r < rows.size(); ++r) out += fmt::format("  {:>{}}", rows[r][c], widths[r]);
    out += "\n";
  }
  return out;
}

void write_run_report(const std::string& run) {
  write_file_atomically(report_path(run), report_page({read_run(run)}));
}

}  // namespace sepllm
