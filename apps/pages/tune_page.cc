#include "apps/pages/tune_page.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <map>
#include <string>
#include <utility>

#include "apps/pages/html_page.h"
#include "apps/pages/svg_plot.h"
#include "apps/shell/figures.h"

namespace sepllm {
namespace {

constexpr const char* kTuneStyle = R"(
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(200px, 1fr)); gap: 10px; margin: 14px 0; }
.tiles .card { padding: 10px 14px; font-size: 19px; font-variant-numeric: tabular-nums; }
.tiles span { display: block; color: var(--muted); font-size: 13px; }
pre { overflow-x: auto; font-size: 13px; } tr.found td { font-weight: 600; }
dl { margin: 0; } dt { font-weight: 600; margin-top: 8px; } dd { margin: 0 0 4px; }
)";

std::string tile(const std::string& what, const std::string& value, const std::string& below) {
  return fmt::format("<div class=\"card\"><span>{}</span>{}<span>{}</span></div>\n", html_escape(what),
                     html_escape(value), html_escape(below));
}

std::string cost_words(const TuneCost& cost) {
  return fmt::format("{:.0f} keys per token, {}", cost.mean_keys, human_bytes(cost.bytes));
}

std::string introduction(const TunePage& page) {
  return fmt::format(
      "<p>To write the next word, a language model looks back at every earlier token through numbers that it "
      "has kept "
      "for it: its <b>key</b> and value. With a long text they fill the memory, and reading them takes time. "
      "A "
      "<b>policy</b> says which tokens are kept. Fewer keys cost less, but the model predicts a little "
      "worse. This page "
      "shows which policy fits <code>{}</code> best within {}.</p>\n",
      html_escape(page.model), html_escape(page.budget));
}

std::string answer(const TuneReport& report) {
  const TuneRow* found = report.row(TuneRow::Role::kFound);
  const TuneRow* full = report.row(TuneRow::Role::kFull);
  const TuneRow* fixed = report.best_fixed();
  std::string out = "<h2>The answer</h2>\n<div class=\"tiles\">\n";
  const auto add = [&](const char* what, const TuneRow* row) {
    if (row != nullptr)
      out += tile(what, fmt::format("perplexity {:.3f}", row->perplexity()), cost_words(row->cost));
  };
  add("Full attention: everything is kept", full);
  add("Best policy with one rule for all layers", fixed);
  add("Found policy", found);
  out += "</div>\n";
  if (found == nullptr || fixed == nullptr) return out;
  const PairedDifference& d = found->to_best_fixed;
  const bool unknown = std::isnan(d.standard_error);
  const bool clear = std::abs(d.mean) > 2 * d.standard_error;
  out += fmt::format(
      "<p>The found policy is <b>{}</b>. On text that the search did not see, its loss differs from that of "
      "the best "
      "one-rule policy ({}) by {:+.4f} &plusmn; {} (mean over tokens and its standard error; below 0 is "
      "better), "
      "which is {}.</p>\n",
      html_escape(found->policy.name), html_escape(fixed->policy.name), d.mean, d.error_text(),
      unknown      ? "from too few tokens to tell whether it is more than noise"
      : !clear     ? "within the noise: on this text the two are equally good"
      : d.mean < 0 ? "more than two standard errors: it is better"
                   : "more than two standard errors: it is worse, and the search was misled by its own text");
  return out;
}

std::string use(const TunePage& page) {
  std::string out = "<h2>How to use it</h2>\n";
  if (!page.policy_file.empty()) {
    out += fmt::format(
        "<p>Every command that runs a model reads the policy from the file that was written:</p>\n<pre "
        "class=\"card\">sepllm chat --model {0} --policy-file {1}\nsepllm serve --model {0} --policy-file "
        "{1}</pre>\n",
        html_escape(page.model), html_escape(page.policy_file));
  }
  return out +
         "<p>Or put this member into the model's <code>config.json</code>; then it holds without any "
         "option:</p>\n<pre "
         "class=\"card\">" +
         html_escape("\"sepllm\": " + json_text(page.policy, 2)) + "</pre>\n";
}

using Points = std::vector<std::pair<double, double>>;

Plot frontier(const TuneReport& report, const char* x_label, const std::function<double(const TuneRow&)>& x) {
  Plot plot{.title = "", .x_label = x_label, .y_label = "perplexity", .series = {}, .y_from_zero = false};
  std::map<std::string, Points> curves;
  for (const TuneRow& row : report.rows) {
    if (!row.family.empty()) curves[row.family].emplace_back(x(row), row.perplexity());
  }
  const std::pair<const char*, int> kCurves[] = {{"tuned", 2}, {"sink", 1}, {"sep", 3}};
  for (const auto& [name, colour] : kCurves) {
    Points points = curves[name];
    std::sort(points.begin(), points.end());
    if (!points.empty())
      plot.series.push_back({.name = name, .points = std::move(points), .colour = colour, .dots = true});
  }
  for (const TuneRow& row : report.rows) {
    if (!row.family.empty()) continue;
    const bool full = row.role == TuneRow::Role::kFull;
    plot.series.push_back({.name = full ? "full" : policy_name(row.policy.settings.policy.kind),
                           .points = {{x(row), row.perplexity()}},
                           .colour = full ? 0 : 4,
                           .line = false});
  }
  return plot;
}

std::string frontiers(const TuneReport& report) {
  return "<h2>What a smaller memory costs</h2>\n<p>Each point is a policy on text that the search did not "
         "see. Further "
         "left is cheaper, further down predicts better (<b>perplexity</b>: how many tokens the model "
         "hesitates between, "
         "on average). The curves show policies of the same kind with half, once and twice the "
         "budget.</p>\n<div "
         "class=\"plots\">" +
         svg_plot(frontier(report, "mean keys that a token looks at",
                           [](const TuneRow& r) { return r.cost.mean_keys; })) +
         svg_plot(frontier(report, "MiB of keys and values at the end of a piece",
                           [](const TuneRow& r) { return static_cast<double>(r.cost.bytes) / 1048576.0; })) +
         "</div>\n";
}

std::string layers(const TunePage& page, const TuneReport& report) {
  if (report.effects.empty()) return "";
  const auto series = [&](const char* name, int colour, double LayerEffect::*member) {
    PlotSeries out{.name = name, .points = {}, .colour = colour, .dots = true};
    for (const LayerEffect& e : report.effects)
      out.points.emplace_back(static_cast<double>(e.layer), e.*member);
    return out;
  };
  Plot plot{.title = "",
            .x_label = "layer",
            .y_label = "change of the loss",
            .series = {series("sees everything", 1, &LayerEffect::full),
                       series("sees only a narrow window", 2, &LayerEffect::narrow),
                       series("another kind of rule", 3, &LayerEffect::other)},
            .y_from_zero = false,
            .width = 820};
  std::erase_if(plot.series, [](const PlotSeries& s) {
    return std::none_of(s.points.begin(), s.points.end(),
                        [](const auto& p) { return std::isfinite(p.second); });
  });
  std::string out =
      "<h2>Which layers need what</h2>\n<p>A model is a stack of layers, and each can have its own rule. For "
      "this figure "
      "one layer at a time was changed, and the loss on the search's text measured again. Below 0: seeing "
      "more (or "
      "another rule) in this layer helps. Above 0: seeing less there hurts.</p>\n<div class=\"plots\">" +
      svg_plot(plot) + "</div>\n";
  const Policy& policy = report.found.policy.settings.policy;
  out += "<div class=\"card scroll\"><table><tr><th>layers</th><th>rule of the found policy</th></tr>\n";
  for (int64_t first = 0; first < page.n_layers;) {
    int64_t last = first;
    while (last + 1 < page.n_layers &&
           policy.rule(last + 1, page.n_layers) == policy.rule(first, page.n_layers))
      ++last;
    const LayerRule rule = policy.rule(first, page.n_layers);
    const PolicyKind kind = policy.kind_of(first, page.n_layers);
    std::string words = kind == PolicyKind::kFull ? "everything is kept" : policy_name(kind);
    if (kind != PolicyKind::kFull && !policy.streaming())
      words += fmt::format(": the first {} tokens, the last {}", rule.init, rule.window);
    if (kind == PolicyKind::kSep) words += ", and the separators";
    if (kind == PolicyKind::kFixed) words += fmt::format(", and every {}th", rule.interval);
    out += fmt::format("<tr><td>{}</td><td class=\"text\">{}</td></tr>\n",
                       first == last ? std::to_string(first) : fmt::format("{} to {}", first, last), words);
    first = last + 1;
  }
  return out + "</table></div>\n";
}

std::string table(const TuneReport& report) {
  std::string out =
      "<h2>All policies on unseen text</h2>\n<div class=\"card scroll\"><table "
      "class=\"wide\"><tr><th>policy</th><th>perplexity</th><th>mean keys</th><th>of full</th><th>KV "
      "cache</th><th>loss "
      "compared with the best of one rule</th><th>time</th></tr>\n";
  std::vector<const TuneRow*> rows;
  for (const TuneRow& row : report.rows) rows.push_back(&row);
  std::stable_sort(rows.begin(), rows.end(), [](const auto* a, const auto* b) { return a->nll < b->nll; });
  for (const TuneRow* row : rows) {
    out += fmt::format(
        "<tr{}><td>{}</td><td>{:.3f}</td><td>{:.1f}</td><td>{:.1f} %</td><td>{}</td><td>{:+.4f} &plusmn; "
        "{}</td><td>{}</td></tr>\n",
        row->role == TuneRow::Role::kFound ? " class=\"found\"" : "", html_escape(row->policy.name),
        row->perplexity(), row->cost.mean_keys, 100 * row->cost.share, human_bytes(row->cost.bytes),
        row->to_best_fixed.mean, row->to_best_fixed.error_text(), duration_text(row->seconds));
  }
  return out + "</table></div>\n";
}

std::string separators(const TuneReport& report) {
  if (report.separators.empty()) return "";
  std::string out =
      "<h2>Separators that this model looks back at</h2>\n<p>Attention that a separator gets from tokens far "
      "behind it, "
      "under full attention, in multiples of what any token would get if all got the same.</p>\n<div "
      "class=\"card "
      "scroll\"><table><tr><th>token</th><th>occurs</th><th>attention</th></tr>\n";
  for (const SeparatorFact& s : report.separators) {
    out += fmt::format("<tr><td><code>{}</code></td><td>{}</td><td>{:.2f}</td></tr>\n",
                       html_escape(json_text(Json(s.piece))), s.count, s.attention);
  }
  return out + "</table></div>\n";
}

std::string method(const TunePage& page, const TuneReport& report) {
  std::string files;
  for (const std::string& file : page.texts) files += (files.empty() ? "" : ", ") + file;
  return fmt::format(
      "<h2>How it was found</h2>\n<p>The text ({}) was cut into two halves. On {} tokens of the first half, "
      "in pieces of "
      "{}, {} policies were measured that fit the budget: first those with one rule for all layers, as large "
      "as the "
      "budget allows; then, beginning with the best of these, a greedy search that gives full attention to "
      "the layers "
      "that it helps most, and a narrow window to those that lose least, and each time fits the window of "
      "the others to "
      "the budget. The figures above are from {} tokens of the other half.{}</p>\n<dl>"
      "<dt>sink</dt><dd>The first tokens and the last n are kept.</dd>"
      "<dt>sep</dt><dd>In addition, all separators are kept (full stops, commas, line ends): each stands for "
      "the segment "
      "that it closes.</dd>"
      "<dt>fixed</dt><dd>Instead of separators every k-th token is kept.</dd>"
      "<dt>sink-stream, sep-stream</dt><dd>The same with a cache of c slots that never grows.</dd>"
      "<dt>n, k, m, c, s, w</dt><dd>The window; the interval of fixed; the longest segment without a "
      "separator, of which "
      "every m-th token is kept; and a stream's capacity, separators and window.</dd>"
      "<dt>loss</dt><dd>The negative log-likelihood per token, with the natural logarithm; perplexity is e "
      "to its "
      "power.</dd></dl>\n",
      html_escape(files), page.search_tokens, page.context, report.search.size(), page.report_tokens,
      report.interrupted ? " <b>The search was interrupted; this is the best policy until then.</b>" : "");
}

}  // namespace

std::string tune_page(const TunePage& page, const TuneReport& report) {
  return html_page("A policy for " + page.model, kTuneStyle + std::string(kPlotStyle),
                   introduction(page) + answer(report) + use(page) + frontiers(report) +
                       layers(page, report) + table(report) + separators(report) + method(page, report) +
                       provenance_html(page.program));
}

}  // namespace sepllm
