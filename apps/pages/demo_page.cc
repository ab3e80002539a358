#include "apps/pages/demo_page.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "apps/pages/html_page.h"
#include "apps/pages/svg_plot.h"
#include "apps/shell/common.h"
#include "apps/shell/figures.h"

namespace sepllm {
namespace {

constexpr const char* kDemoStyle = R"(
dl { margin: 0; } dt { font-weight: 600; margin-top: 8px; } dd { margin: 0 0 4px; }
td i { display: inline-block; width: 10px; height: 10px; border-radius: 5px; margin-right: 8px; }
)";

std::string name_of(const DemoRow& row) { return policy_name(row.settings.policy.kind); }

// "init 4, window 64, ...": the settings that matter for this policy.
std::string settings_text(const PolicySettings& settings) {
  std::string out;
  const Json json = policy_json(settings);
  for (const char* key : {"init", "window", "seps", "capacity", "interval"}) {
    if (json.contains(key)) out += fmt::format("{}{} {}", out.empty() ? "" : ", ", key, json_text(json[key]));
  }
  return out;
}

// The beginning of a text on one line, cut between characters.
std::string first_words(const std::string& text, size_t limit) {
  std::string out;
  for (const char c : text) {
    const bool character_starts = (static_cast<unsigned char>(c) & 0xC0U) != 0x80U;
    if (out.size() >= limit && character_starts) return out + "...";
    out += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
  }
  return out;
}

// The end of a text on one line, from a character on.
std::string last_words(const std::string& text, size_t limit) {
  if (text.size() <= limit) return first_words(text, limit);
  size_t at = text.size() - limit;
  while (at < text.size() && (static_cast<unsigned char>(text[at]) & 0xC0U) == 0x80U) ++at;
  return "..." + first_words(text.substr(at), limit);
}

std::string percent(double share) { return fmt::format("{:.1f} %", 100 * share); }

bool any_note(const DemoReport& report) { return !report.note.empty(); }

std::vector<std::string> cells(const DemoRow& row) {
  return {name_of(row),
          fmt::format("{:.3f}", row.common.perplexity()),
          fmt::format("{:.1f}", row.common_kv.mean_keys()),
          percent(row.common_kv.mean_share()),
          std::to_string(row.longest.tokens),
          fmt::format("{:.3f}", row.longest.perplexity()),
          fmt::format("{:.1f}", row.longest_kv.mean_keys()),
          percent(row.longest_kv.mean_share()),
          human_bytes(row.longest_kv.peak_bytes),
          human_bytes(row.longest_kv.reserved_bytes),
          fmt::format("{:.0f}", row.longest.tokens_per_second()),
          fmt::format("{:.0f}", row.decode_tokens_per_second)};
}

constexpr const char* kColumns[] = {"policy",  "perplexity", "keys",      "of full",
                                    "tokens",  "perplexity", "mean keys", "of full",
                                    "KV peak", "reserved",   "scored/s",  "decoded/s"};

PlotSeries series(const DemoRow& row, size_t index, bool line) {
  return {.name = name_of(row),
          .points = {},
          .colour = static_cast<int>(index % 6),
          .line = line,
          .dashed = false};
}

Plot perplexity_plot(const DemoReport& report) {
  Plot plot{
      .title = fmt::format("Perplexity of the first {} tokens, by keys attended to", report.common_tokens),
      .x_label = "mean keys per query",
      .y_label = "perplexity",
      .series = {},
      .y_from_zero = false};
  for (size_t i = 0; i < report.rows.size(); ++i) {
    PlotSeries s = series(report.rows[i], i, false);
    s.points.emplace_back(report.rows[i].common_kv.mean_keys(), report.rows[i].common.perplexity());
    plot.series.push_back(std::move(s));
  }
  return plot;
}

Plot stretches_plot(const DemoReport& report) {
  Plot plot{.title = "Perplexity along the text",
            .x_label = fmt::format("tokens (the model's positions end at {})", report.positions),
            .y_label = fmt::format("perplexity of {} tokens", report.stretch),
            .series = {},
            .y_from_zero = false};
  for (size_t i = 0; i < report.rows.size(); ++i) {
    PlotSeries s = series(report.rows[i], i, true);
    s.points = report.rows[i].perplexity_curve;
    s.dots = true;
    plot.series.push_back(std::move(s));
  }
  return plot;
}

Plot memory_plot(const DemoReport& report) {
  Plot plot{.title = "KV cache along the text",
            .x_label = "tokens",
            .y_label = "KiB held after a chunk",
            .series = {},
            .log_y = true};
  double longest = 0;
  for (size_t i = 0; i < report.rows.size(); ++i) {
    PlotSeries s = series(report.rows[i], i, true);
    for (const auto& [tokens, bytes] : report.rows[i].kv_curve) {
      s.points.emplace_back(tokens, bytes / 1024);
      longest = std::max(longest, tokens);
    }
    plot.series.push_back(std::move(s));
  }
  // Full attention past its limit was not run, but what it would hold is known.
  PlotSeries full{.name = "full, computed", .points = {}, .colour = 0, .line = true, .dashed = true};
  constexpr int kSteps = 64;
  for (int i = 1; i <= kSteps; ++i) {
    const double tokens = longest * i / kSteps;
    full.points.emplace_back(tokens, tokens * static_cast<double>(report.kv_bytes_per_token) / 1024);
  }
  plot.series.push_back(std::move(full));
  return plot;
}

std::string html_table(const DemoReport& report) {
  std::string out = fmt::format(
      "<div class=\"card scroll\"><table class=\"wide\"><tr><th></th><th colspan=\"3\">first {} "
      "tokens</th><th colspan=\"7\">as far "
      "as the policy can go</th><th></th></tr>\n<tr>",
      report.common_tokens);
  for (const char* column : kColumns) out += fmt::format("<th>{}</th>", column);
  out += "</tr>\n";
  for (size_t i = 0; i < report.rows.size(); ++i) {
    out += "<tr>";
    const std::vector<std::string> row = cells(report.rows[i]);
    for (size_t c = 0; c < row.size(); ++c) {
      const std::string dot = c == 0 ? fmt::format("<i style=\"background:var(--c{})\"></i>", i % 6) : "";
      out += fmt::format("<td>{}{}</td>", dot, html_escape(row[c]));
    }
    out += "</tr>\n";
  }
  return out + "</table></div>\n";
}

}  // namespace

std::string demo_table(const DemoReport& report) {
  constexpr size_t kWidths[] = {12, 11, 8, 9, 8, 11, 10, 9, 11, 11, 9, 10};
  const auto row_text = [&](const std::vector<std::string>& row) {
    std::string out;
    for (size_t c = 0; c < row.size(); ++c) {
      out += c == 0 ? fmt::format("{:<{}}", row[c], kWidths[c]) : fmt::format("{:>{}}", row[c], kWidths[c]);
    }
    return out + "\n";
  };
  std::string out = fmt::format("SepLLM demo: {}\n", report.model);
  if (any_note(report)) out += fmt::format("Note: {}\n", report.note);
  out += fmt::format("Text: {}\n\n", report.text);
  const std::string span = fmt::format("first {} tokens", report.common_tokens);
  out += fmt::format("{:<12}{:>28}{:>40}\n", "", span, "as far as the policy can go");
  out += row_text({std::begin(kColumns), std::end(kColumns)});
  for (const DemoRow& row : report.rows) out += row_text(cells(row));
  out += fmt::format("\nGreedy continuation of the first {} tokens: {}\n", report.prompt_tokens,
                     last_words(report.prompt, 70));
  for (const DemoRow& row : report.rows) {
    out += fmt::format("{:<12}{}\n", name_of(row), first_words(row.generated, 90));
  }
  return out;
}

std::string demo_page(const DemoReport& report) {
  std::string body =
      fmt::format("<p>{}. Text: {}.</p>\n", html_escape(report.model), html_escape(report.text));
  if (any_note(report)) body += fmt::format("<p><b>{}</b></p>\n", html_escape(report.note));
  body += html_table(report);
  body += fmt::format(
      "<p class=\"note\">Keys is the number of keys that a query attended to, including itself, measured "
      "over all queries and "
      "layers. Full attention is scored only within the model's position limit. The first {} tokens are the "
      "same for all policies, so compare perplexities there. Beyond the limit the static policies (sep, "
      "sink, "
      "fixed) use positions that the model never saw. The streaming policies count slots of the cache, and "
      "so "
      "never exceed the limit.</p>\n",
      report.common_tokens);
  body += "<div class=\"plots\">";
  for (const Plot& plot : {perplexity_plot(report), stretches_plot(report), memory_plot(report)})
    body += "<div class=\"card\">" + svg_plot(plot) + "</div>";
  body += "</div>\n";
  body +=
      "<h2>Settings</h2>\n<div class=\"card scroll\"><table><tr><th>policy</th><th "
      "style=\"text-align:left\">settings</th></tr>\n";
  for (const DemoRow& row : report.rows) {
    body += fmt::format("<tr><td>{}</td><td class=\"text\">{}</td></tr>\n", name_of(row),
                        html_escape(settings_text(row.settings)));
  }
  body += fmt::format(
      "</table></div>\n<h2>Greedy continuation of the first {} tokens</h2>\n<div "
      "class=\"card\"><p>{}</p><dl>\n",
      report.prompt_tokens, html_escape(last_words(report.prompt, 400)));
  for (const DemoRow& row : report.rows) {
    body += fmt::format("<dt>{}</dt><dd>{}</dd>\n", name_of(row), html_escape(row.generated));
  }
  return html_page("SepLLM: one model, six policies", std::string(kPlotStyle) + kDemoStyle,
                   body + "</dl></div>\n" + provenance_html(report.program));
}

Json demo_json(const DemoReport& report) {
  Json rows = Json::array();
  for (const DemoRow& row : report.rows) {
    rows.push_back({{"policy", policy_json(row.settings)},
                    {"common",
                     {{"tokens", row.common.tokens},
                      {"perplexity", row.common.perplexity()},
                      {"kv", row.common_kv.json()}}},
                    {"tokens", row.longest.tokens},
                    {"perplexity", row.longest.perplexity()},
                    {"tokens_per_second", row.longest.tokens_per_second()},
                    {"kv", row.longest_kv.json()},
                    {"decode_tokens_per_second", row.decode_tokens_per_second},
                    {"text", row.generated}});
  }
  return {{"model", report.model},
          {"note", report.note},
          {"text", report.text},
          {"program", report.program},
          {"rows", rows}};
}

}  // namespace sepllm
