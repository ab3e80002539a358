// Small line and scatter plots as inline SVG, for pages in light and dark (colours are html_page's
// variables).
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace sepllm {

struct PlotSeries {
  std::string name;
  std::vector<std::pair<double, double>> points;
  int colour = 0;    // --c0 to --c5
  bool line = true;  // else dots, each labelled with the series' name
  bool dashed = false;
};

struct Plot {
  std::string title;
  std::string x_label, y_label;
  std::vector<PlotSeries> series;
  bool y_from_zero = true;
  bool log_y = false;  // needs positive values
  double width = 520, height = 340;
};

// Points that are not finite are left out.
std::string svg_plot(const Plot& plot);

// Round numbers between low and high (low < high), about `count` of them.
std::vector<double> axis_ticks(double low, double high, int count);

}  // namespace sepllm
