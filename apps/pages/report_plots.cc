#include "apps/pages/report_plots.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "apps/pages/svg_plot.h"

namespace sepllm {
namespace {

using Column = std::vector<double>;
using Points = std::vector<std::pair<double, double>>;

template <typename Fn>
Column column_of(const RunRecord& run, const Fn& fn) {
  Column out;
  for (const StepMetrics& m : run.steps) out.push_back(fn(m));
  return out;
}

Column losses_of(const RunRecord& run) {
  return column_of(run, [](const StepMetrics& m) { return m.skipped ? NAN : m.loss; });
}

// At most about `limit` points of a line: the last point of each of that many equal parts of the x axis.
Points thinned(const Column& x, const Column& y, size_t limit) {
  Points out;
  const double width = x.empty() ? 0 : x.back() / static_cast<double>(limit);
  double part = -1;
  for (size_t i = 0; i < x.size(); ++i) {
    const double here = width > 0 ? std::floor(x[i] / width) : 0;
    if (x.size() > limit && here == part && std::isfinite(y[i])) {
      out.back() = {x[i], y[i]};
    } else {
      out.emplace_back(x[i], y[i]);
    }
    part = here;
  }
  return out;
}

// The band of a noisy line: the lowest and the highest value of each part.
Points envelope(const Column& x, const Column& y, size_t limit) {
  if (x.size() <= 2 * limit) return thinned(x, y, x.size());
  Points out;
  const double width = x.back() / static_cast<double>(limit);
  for (size_t i = 0; i < x.size();) {
    const double part = std::floor(x[i] / width), begin = x[i];
    double low = INFINITY, high = -INFINITY;
    for (; i < x.size() && std::floor(x[i] / width) == part; ++i) {
      if (!std::isfinite(y[i])) continue;
      low = std::min(low, y[i]);
      high = std::max(high, y[i]);
    }
    if (!(low <= high)) {
      out.emplace_back(begin, NAN);
    } else {
      out.emplace_back(begin, low);
      if (high > low) out.emplace_back(begin, high);
    }
  }
  return out;
}

// An x axis: its quantity, in a unit that keeps the numbers short.
struct Axis {
  std::string label;
  std::function<double(const StepMetrics&)> value;
};

double flops_of(const StepMetrics& m) { return m.dense_flops + m.attention_flops; }

double largest(const std::vector<RunRecord>& runs, const std::function<double(const StepMetrics&)>& value) {
  double most = 0;
  for (const RunRecord& run : runs) {
    for (const StepMetrics& m : run.steps) most = std::fmax(most, value(m));
  }
  return most;
}

Axis step_axis() {
  return {"step", [](const StepMetrics& m) { return static_cast<double>(m.step); }};
}

Axis token_axis(const std::vector<RunRecord>& runs) {
  const auto tokens = [](const StepMetrics& m) { return m.tokens < 0 ? NAN : static_cast<double>(m.tokens); };
  const double most = largest(runs, tokens);
  const double unit = most >= 2e9 ? 1e9 : most >= 2e6 ? 1e6 : 1;
  return {unit == 1e9   ? "tokens, thousands of millions"
          : unit == 1e6 ? "tokens, millions"
                        : "tokens",
          [=](const StepMetrics& m) { return tokens(m) / unit; }};
}

Axis flops_axis(const std::vector<RunRecord>& runs) {
  const double most = largest(runs, flops_of);
  const int decade = most > 0 ? static_cast<int>(std::floor(std::log10(most) / 3)) * 3 : 0;
  return {fmt::format("FLOPs, 1e{}", decade),
          [unit = std::pow(10.0, decade)](const StepMetrics& m) { return flops_of(m) / unit; }};
}

Axis time_axis(const std::vector<RunRecord>& runs) {
  const double most = largest(runs, [](const StepMetrics& m) { return m.elapsed; });
  const double unit = most >= 7200 ? 3600 : most >= 300 ? 60 : 1;
  return {unit == 3600 ? "hours"
          : unit == 60 ? "minutes"
                       : "seconds",
          [unit](const StepMetrics& m) { return m.elapsed / unit; }};
}

// The upper end of a plot of losses: a run begins far above the interesting range.
std::optional<double> top_of_losses(const std::vector<RunRecord>& runs) {
  double low = INFINITY, high = -INFINITY, later = -INFINITY;
  for (const RunRecord& run : runs) {
    const Column line = smoothed(losses_of(run));
    for (size_t i = 0; i < line.size(); ++i) {
      if (!std::isfinite(line[i])) continue;
      low = std::min(low, line[i]);
      high = std::max(high, line[i]);
      if (i >= line.size() / 25) later = std::max(later, line[i]);
    }
  }
  if (!(low < later)) return std::nullopt;
  const double top = later + 0.1 * (later - low);
  return top < high ? std::optional<double>(top) : std::nullopt;
}

std::string plot_card(const Plot& plot) { return "<div class=\"card\">" + svg_plot(plot) + "</div>\n"; }

// A quantity of all runs over an axis: pale lines for each run's values, and a smoothed line.
Plot curves(const std::vector<RunRecord>& runs, const Axis& axis,
            const std::function<Column(const RunRecord&)>& values, bool smooth) {
  constexpr size_t kBands = 220, kPoints = 440;
  Plot plot{.title = "", .x_label = axis.label, .y_label = "", .series = {}, .y_from_zero = false};
  for (size_t r = 0; r < runs.size(); ++r) {
    const Column x = column_of(runs[r], axis.value), y = values(runs[r]);
    const bool known = std::any_of(y.begin(), y.end(), [](double v) { return std::isfinite(v); });
    if (!known) continue;
    PlotSeries line{.name = runs[r].name, .points = {}, .colour = run_colour(r)};
    // With enough values, the noise is drawn as a line of its own.
    if (smooth && x.size() > 8) {
      PlotSeries noise = line;
      noise.points = envelope(x, y, kBands);
      noise.faint = true;
      noise.legend = false;
      plot.series.push_back(std::move(noise));
    }
    line.points = thinned(x, smooth && x.size() > 8 ? smoothed(y) : y, kPoints);
    line.legend = runs.size() > 1;
    plot.series.push_back(std::move(line));
  }
  return plot;
}

void add_held_out(const std::vector<RunRecord>& runs, const Axis& axis, Plot* plot) {
  for (size_t r = 0; r < runs.size(); ++r) {
    Column x, y;
    for (const StepMetrics& m : runs[r].steps) {
      if (!m.valid_loss) continue;
      x.push_back(axis.value(m));
      y.push_back(*m.valid_loss);
    }
    if (x.empty()) continue;
    const int colour = runs.size() > 1 ? run_colour(r) : 2;
    plot->series.push_back({.name = runs.size() > 1 ? runs[r].name + ", held out" : "held out",
                            .points = thinned(x, y, 80),
                            .colour = colour,
                            .dashed = true,
                            .dots = x.size() <= 80,
                            .legend = runs.size() == 1});
  }
}

void add_crosses(const std::vector<RunRecord>& runs, const Axis& axis, Plot* plot) {
  constexpr size_t kMost = 400;
  for (size_t r = 0; r < runs.size(); ++r) {
    for (const StepMetrics& m : runs[r].steps) {
      if (m.skipped && plot->crosses.size() < kMost) plot->crosses.emplace_back(axis.value(m), run_colour(r));
    }
  }
}

std::string loss_plot(const std::vector<RunRecord>& runs, const Axis& axis, const std::string& title) {
  Plot plot = curves(runs, axis, losses_of, true);
  plot.title = title;
  plot.y_label = "loss";
  if (runs.size() == 1 && !plot.series.empty()) {
    plot.series.back().name = "training";
    plot.series.back().legend = true;
  }
  add_held_out(runs, axis, &plot);
  add_crosses(runs, axis, &plot);
  plot.y_high = top_of_losses(runs);
  return plot.series.empty() ? "" : plot_card(plot);
}

std::string course_plot(const std::vector<RunRecord>& runs, const std::string& title,
                        const std::function<Column(const RunRecord&)>& values,
                        const std::function<void(Plot*)>& adjust, bool smooth = true) {
  Plot plot = curves(runs, step_axis(), values, smooth);
  plot.title = title;
  adjust(&plot);
  return plot.series.empty() ? "" : plot_card(plot);
}

std::string course_plots(const std::vector<RunRecord>& runs) {
  const auto of = [](auto fn) { return [fn](const RunRecord& run) { return column_of(run, fn); }; };
  const auto from_zero = [](Plot* plot) { plot->y_from_zero = true; };
  std::string out = "<h2>Course</h2>\n<div class=\"plots\">\n";
  out += course_plot(runs, "Learning rate", of([](const StepMetrics& m) { return m.lr; }), from_zero, false);
  out += course_plot(runs, "Gradient norm, before clipping",
                     of([](const StepMetrics& m) { return m.gradient_norm; }), [&runs](Plot* plot) {
                       plot->log_y = true;
                       add_crosses(runs, step_axis(), plot);
                     });
  out += course_plot(runs, "Tokens per second", speeds, from_zero);
  out += course_plot(runs, "Share of the machine's matrix products, %",
                     of([](const StepMetrics& m) { return m.gemm_share ? 100 * *m.gemm_share : NAN; }),
                     from_zero);
  out += course_plot(runs, "Visible share of the keys, %",
                     of([](const StepMetrics& m) { return 100 * m.visible_share; }), from_zero);
  return out + "</div>\n";
}

}  // namespace

int run_colour(size_t index) { return static_cast<int>(index % 5) + 1; }

std::optional<CommonLoss> common_loss(const std::vector<RunRecord>& runs) {
  CommonLoss goal{-INFINITY, true};
  for (const RunRecord& run : runs) goal.held_out &= std::isfinite(summarise(run).best_valid_loss);
  for (const RunRecord& run : runs) {
    double least = INFINITY;
    if (goal.held_out) {
      least = summarise(run).best_valid_loss;
    } else {
      for (const double loss : smoothed(losses_of(run))) least = std::fmin(least, loss);
    }
    goal.loss = std::max(goal.loss, least);
  }
  return std::isfinite(goal.loss) ? std::optional(goal) : std::nullopt;
}

StepMetrics first_below(const RunRecord& run, const CommonLoss& goal) {
  const Column line = goal.held_out
                          ? column_of(run, [](const StepMetrics& m) { return m.valid_loss.value_or(NAN); })
                          : smoothed(losses_of(run));
  const auto at = std::find_if(line.begin(), line.end(), [&goal](double loss) { return loss <= goal.loss; });
  return at == line.end() ? StepMetrics() : run.steps[static_cast<size_t>(at - line.begin())];
}

std::string report_plots(const std::vector<RunRecord>& runs) {
  const bool any = std::any_of(runs.begin(), runs.end(), [](const RunRecord& r) { return !r.steps.empty(); });
  if (!any) return "";
  std::string out = "<h2>Loss</h2>\n<div class=\"plots\">\n";
  out += loss_plot(runs, step_axis(), "Loss by step");
  out += loss_plot(runs, token_axis(runs), "Loss by tokens");
  out += loss_plot(runs, flops_axis(runs), "Loss by training FLOPs");
  out += loss_plot(runs, time_axis(runs), "Loss by time");
  out +=
      "</div>\n<p class=\"note\">Pale lines show each step, strong lines are smoothed, dashed lines are "
      "held-out losses, and crosses "
      "are steps that the guard against spikes skipped. FLOPs are those of products with weights and of the "
      "visible pairs of attention.</p>\n";
  return out + course_plots(runs);
}

}  // namespace sepllm
