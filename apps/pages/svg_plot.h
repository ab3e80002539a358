// Small line and scatter plots as inline SVG, for pages in light and dark (colours are html_page's
// variables).
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace sepllm {

struct PlotSeries {
  std::string name;
  // Points that are not finite are left out and interrupt a line.
  std::vector<std::pair<double, double>> points;
  int colour = 0;    // --c0 to --c5
  bool line = true;  // otherwise dots, each labelled with the series' name
  bool dashed = false;
  bool faint = false;  // thin and pale: noise behind another line
  bool dots = false;   // small dots on the line's points
  bool legend = true;  // only for lines
};

struct Plot {
  std::string title;
  std::string x_label, y_label;
  std::vector<PlotSeries> series;
  bool y_from_zero = true;
  bool log_y = false;              // needs positive values
  std::optional<double> y_high{};  // what lies above is cut off
  // Places on the x axis that are marked by a cross, and its colour.
  std::vector<std::pair<double, int>> crosses{};
  double width = 520, height = 340;
};

std::string svg_plot(const Plot& plot);

// The style rules that a page with plots needs; plots stand side by side in an element of class "plots".
extern const char* const kPlotStyle;

// About `count` round numbers between low and high (low < high).
std::vector<double> axis_ticks(double low, double high, int count);

}  // namespace sepllm
