#include "apps/pages/svg_plot.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "apps/pages/html_page.h"

namespace sepllm {
namespace {

constexpr double kLeft = 62, kRight = 18, kTop = 34, kBottom = 46, kLegend = 24;

struct Range {
  double low = INFINITY, high = -INFINITY;
  void include(double v) {
    low = std::min(low, v);
    high = std::max(high, v);
  }
};

bool usable(const Plot& plot, const std::pair<double, double>& p) {
  return std::isfinite(p.first) && std::isfinite(p.second) && (!plot.log_y || p.second > 0);
}

// The height of the names above the frame.
double legend_height(const Plot& plot) {
  const bool any = std::any_of(plot.series.begin(), plot.series.end(),
                               [](const PlotSeries& s) { return s.line && s.legend; });
  return any ? kLegend : 0;
}

// The axes of a plot: maps values to pixels.
class Frame {
 public:
  explicit Frame(const Plot& plot) : plot_(plot) {
    for (const PlotSeries& s : plot.series) {
      for (const auto& p : s.points) {
        if (!usable(plot, p)) continue;
        x_.include(p.first);
        y_.include(scaled(plot.y_high ? std::min(p.second, *plot.y_high) : p.second));
      }
    }
    if (!(x_.low <= x_.high)) x_ = y_ = {0, 1};
    x_.include(0);
    if (plot.y_from_zero && !plot.log_y) y_.include(0);
    widen(x_, 0.04, x_.low == 0);
    widen(y_, 0.08, plot.y_from_zero && !plot.log_y && y_.low == 0);
  }
  double x(double v) const {
    return kLeft + (v - x_.low) / (x_.high - x_.low) * (plot_.width - kLeft - kRight);
  }
  double y(double v) const {
    return plot_.height - kBottom -
           (scaled(v) - y_.low) / (y_.high - y_.low) * (plot_.height - kTop - legend_height(plot_) - kBottom);
  }
  std::vector<double> x_ticks() const { return axis_ticks(x_.low, x_.high, 6); }
  std::vector<double> y_ticks() const {
    if (!plot_.log_y) return axis_ticks(y_.low, y_.high, 5);
    std::vector<double> out;
    for (int decade = static_cast<int>(std::floor(y_.low)); decade <= y_.high; ++decade) {
      for (const double m : {1.0, 2.0, 5.0}) {
        const double v = m * std::pow(10, decade);
        if (scaled(v) >= y_.low && scaled(v) <= y_.high) out.push_back(v);
      }
    }
    return out;
  }

 private:
  double scaled(double v) const { return plot_.log_y ? std::log10(v) : v; }
  static void widen(Range& r, double by, bool keep_low) {
    const double span = r.high > r.low ? r.high - r.low : std::max(1.0, std::abs(r.high) * 0.1);
    if (!keep_low) r.low -= by * span;
    r.high += by * span;
  }

  const Plot& plot_;
  Range x_, y_;
};

std::string number(double v) {
  const double size = std::abs(v);
  if (size >= 1e6 || (size > 0 && size < 1e-5)) {
    return size >= 1e9 || size < 1 ? fmt::format("{:.3g}", v) : fmt::format("{:g}M", v / 1e6);
  }
  if (size >= 1e4) return fmt::format("{:g}k", v / 1e3);
  return fmt::format("{:g}", std::round(v * 1e6) / 1e6);
}

std::string axes(const Plot& plot, const Frame& frame) {
  const double right = plot.width - kRight, bottom = plot.height - kBottom;
  std::string out;
  for (const double v : frame.y_ticks()) {
    out += fmt::format("<line class=\"grid\" x1=\"{}\" x2=\"{}\" y1=\"{:.1f}\" y2=\"{:.1f}\"/>", kLeft, right,
                       frame.y(v), frame.y(v));
    out += fmt::format("<text x=\"{}\" y=\"{:.1f}\" text-anchor=\"end\">{}</text>\n", kLeft - 7,
                       frame.y(v) + 4, number(v));
  }
  for (const double v : frame.x_ticks()) {
    out += fmt::format("<text x=\"{:.1f}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n", frame.x(v),
                       bottom + 17, number(v));
  }
  out += fmt::format("<line class=\"axis\" x1=\"{}\" x2=\"{}\" y1=\"{}\" y2=\"{}\"/>", kLeft, right, bottom,
                     bottom);
  out += fmt::format("<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>", (kLeft + right) / 2,
                     plot.height - 8, html_escape(plot.x_label));
  out += fmt::format("<text transform=\"translate(14 {}) rotate(-90)\" text-anchor=\"middle\">{}</text>\n",
                     (kTop + bottom) / 2, html_escape(plot.y_label));
  return out;
}

std::string line_series(const Plot& plot, const Frame& frame, const PlotSeries& s) {
  std::string out, piece, dots;
  int in_piece = 0;
  std::pair<double, double> last;
  const auto dot = [&](const std::pair<double, double>& p, double radius) {
    dots += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"{}\" style=\"fill:var(--c{})\"/>\n",
                        frame.x(p.first), frame.y(p.second), radius, s.colour);
  };
  const auto end_piece = [&] {
    if (in_piece == 1 && !s.dots) dot(last, 2);  // otherwise a line of one point would be invisible
    if (in_piece > 1)
      out += fmt::format(
          "<polyline{} points=\"{}\" style=\"stroke:var(--c{})\"{}><title>{}</title></polyline>\n",
          s.faint ? " class=\"faint\"" : "", piece, s.colour, s.dashed ? " stroke-dasharray=\"5 4\"" : "",
          html_escape(s.name));
    piece.clear();
    in_piece = 0;
  };
  for (const auto& p : s.points) {
    if (!usable(plot, p)) {
      end_piece();
      continue;
    }
    piece += fmt::format("{:.1f},{:.1f} ", frame.x(p.first), frame.y(p.second));
    last = p;
    ++in_piece;
    if (s.dots) dot(p, 2.5);
  }
  end_piece();
  return out + dots;
}

// Crosses above the axis, where something happened.
std::string crosses(const Plot& plot, const Frame& frame) {
  std::string out;
  const double y = plot.height - kBottom - 7;
  for (const auto& [at, colour] : plot.crosses) {
    const double x = frame.x(at);
    out += fmt::format("<path class=\"cross\" d=\"M{:.1f} {}l6 6m0-6l-6 6\" style=\"stroke:var(--c{})\"/>\n",
                       x - 3, y - 3, colour);
  }
  return out;
}

struct Box {
  double x0, y0, x1, y1;
  bool meets(const Box& o) const { return x0 < o.x1 && o.x0 < x1 && y0 < o.y1 && o.y0 < y1; }
};

// Where the label of a dot goes: next to, above or below it, wherever it covers nothing; else next to it.
Box place_label(double x, double y, double width, const std::vector<Box>& taken, double right_edge) {
  constexpr double kHalf = 7, kGap = 8;
  const Box places[] = {{x + kGap, y - kHalf, x + kGap + width, y + kHalf},
                        {x - kGap - width, y - kHalf, x - kGap, y + kHalf},
                        {x - width / 2, y - kGap - 2 * kHalf, x + width / 2, y - kGap},
                        {x - width / 2, y + kGap, x + width / 2, y + kGap + 2 * kHalf}};
  for (const Box& place : places) {
    const bool covers = std::any_of(taken.begin(), taken.end(), [&](const Box& t) { return t.meets(place); });
    if (!covers && place.x1 < right_edge && place.x0 > kLeft) return place;
  }
  return places[0];
}

std::string dots(const Plot& plot, const Frame& frame) {
  std::string out;
  std::vector<Box> taken;
  for (const PlotSeries& s : plot.series) {
    if (s.line) continue;
    for (const auto& p : s.points) {
      if (!usable(plot, p)) continue;
      const double x = frame.x(p.first), y = frame.y(p.second);
      out += fmt::format(
          "<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"5\" style=\"fill:var(--c{})\"><title>{}: {:.1f}, "
          "{:.3f}</title></circle>\n",
          x, y, s.colour, html_escape(s.name), p.first, p.second);
      taken.push_back({x - 5, y - 5, x + 5, y + 5});
    }
  }
  for (const PlotSeries& s : plot.series) {
    if (s.line) continue;
    for (const auto& p : s.points) {
      if (!usable(plot, p)) continue;
      const Box box = place_label(frame.x(p.first), frame.y(p.second),
                                  7.2 * static_cast<double>(s.name.size()), taken, plot.width - kRight);
      taken.push_back(box);
      out += fmt::format(
          "<text class=\"name\" x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"middle\" "
          "style=\"fill:var(--c{})\">{}</text>\n",
          (box.x0 + box.x1) / 2, box.y1 - 3, s.colour, html_escape(s.name));
    }
  }
  return out;
}

double legend_width(const PlotSeries& s) { return 32 + 6.6 * static_cast<double>(s.name.size()); }

// The names of the lines, in rows below the title.
std::string legend(const Plot& plot) {
  std::string out;
  double x = kLeft, y = kTop;
  for (const PlotSeries& s : plot.series) {
    if (!s.line || !s.legend) continue;
    if (x + legend_width(s) > plot.width) {
      x = kLeft;
      y += 16;
    }
    out += fmt::format(
        "<line class=\"key\" x1=\"{}\" x2=\"{}\" y1=\"{}\" y2=\"{}\" style=\"stroke:var(--c{})\"{}/>", x,
        x + 14, y, y, s.colour, s.dashed ? " stroke-dasharray=\"4 3\"" : "");
    out += fmt::format("<text x=\"{}\" y=\"{}\">{}</text>\n", x + 18, y + 4, html_escape(s.name));
    x += legend_width(s);
  }
  return out;
}

}  // namespace

std::vector<double> axis_ticks(double low, double high, int count) {
  const double rough = (high - low) / std::max(1, count);
  const double decade = std::pow(10, std::floor(std::log10(rough)));
  double step = 10 * decade;
  for (const double m : {1.0, 2.0, 5.0}) {
    if (m * decade >= rough) {
      step = m * decade;
      break;
    }
  }
  std::vector<double> out;
  const double first = std::ceil(low / step);
  for (int i = 0; (first + i) * step <= high; ++i) out.push_back((first + i) * step);
  return out;
}

std::string svg_plot(const Plot& plot) {
  const Frame frame(plot);
  std::string out = fmt::format(
      "<svg class=\"plot\" viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">\n<text class=\"title\" "
      "x=\"{}\" "
      "y=\"16\">{}</text>\n",
      plot.width, plot.height, html_escape(plot.title), kLeft, html_escape(plot.title));
  out += axes(plot, frame);
  // The inner svg cuts off what lies above it.
  const double top = kTop + legend_height(plot) - 6;
  out += fmt::format("<svg x=\"{0}\" y=\"{1}\" width=\"{2}\" height=\"{3}\" viewBox=\"{0} {1} {2} {3}\">\n",
                     kLeft - 4, top, plot.width - kLeft - kRight + 8, plot.height - kBottom - top + 1);
  for (const PlotSeries& s : plot.series) {
    if (s.line) out += line_series(plot, frame, s);
  }
  out += crosses(plot, frame) + "</svg>\n";
  return out + dots(plot, frame) + legend(plot) + "</svg>\n";
}

const char* const kPlotStyle = R"(
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(420px, 100%), 1fr)); gap: 16px; margin-top: 14px; }
svg.plot { width: 100%; height: auto; font: 12px system-ui, "DejaVu Sans", sans-serif; }
svg.plot text { fill: var(--muted); } svg.plot .title { font-size: 14px; font-weight: 600; fill: var(--ink); }
svg.plot .name { font-weight: 600; } svg.plot .grid { stroke: var(--line); } svg.plot .axis { stroke: var(--muted); }
svg.plot polyline { fill: none; stroke-width: 2; stroke-linejoin: round; } svg.plot .key { stroke-width: 3; }
svg.plot .faint { stroke-width: 1; opacity: 0.35; } svg.plot .cross { fill: none; stroke-width: 1.6; }
)";

}  // namespace sepllm
