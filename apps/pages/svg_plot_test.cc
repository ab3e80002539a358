#include "apps/pages/svg_plot.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstddef>
#include <string>
#include <vector>

#include "apps/pages/html_page.h"

namespace sepllm {
namespace {

int count(const std::string& text, const std::string& part) {
  int n = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++n;
  return n;
}

TEST(SvgPlot, TicksAreRoundAndInside) {
  EXPECT_EQ(axis_ticks(0, 10, 5), (std::vector<double>{0, 2, 4, 6, 8, 10}));
  EXPECT_EQ(axis_ticks(13, 47, 4), (std::vector<double>{20, 30, 40}));
  for (const double span : {1e-6, 0.3, 7.0, 1234.5, 9e9}) {
    const std::vector<double> ticks = axis_ticks(span / 3, span * 2, 5);
    EXPECT_GE(ticks.size(), 2U);
    EXPECT_LE(ticks.size(), 7U);
    EXPECT_GE(ticks.front(), span / 3);
    EXPECT_LE(ticks.back(), span * 2);
  }
}

Plot sample() {
  return {.title = "a < b",
          .x_label = "x",
          .y_label = "y",
          .series = {{.name = "line", .points = {{0, 1}, {1, 2}, {2, 4}}, .colour = 1},
                     {.name = "dot & co", .points = {{1, 3}}, .colour = 2, .line = false}}};
}

TEST(SvgPlot, DrawsLinesAndLabelledDots) {
  const std::string svg = svg_plot(sample());
  EXPECT_EQ(count(svg, "<polyline"), 1);
  EXPECT_EQ(count(svg, "<circle"), 1);
  EXPECT_NE(svg.find("a &lt; b"), std::string::npos);
  EXPECT_NE(svg.find("dot &amp; co</text>"), std::string::npos);
  EXPECT_EQ(count(svg, "<svg"), count(svg, "</svg>"));
}

TEST(SvgPlot, PointsThatAreNotNumbersAreLeftOut) {
  Plot plot = sample();
  plot.series[1].points = {{NAN, 1}, {1, INFINITY}};
  EXPECT_EQ(count(svg_plot(plot), "<circle"), 0);
  plot.log_y = true;
  plot.series[1].points = {{1, 0}, {1, -2}, {1, 10}};
  EXPECT_EQ(count(svg_plot(plot), "<circle"), 1);
  const std::string empty = svg_plot({.title = "none", .x_label = "", .y_label = "", .series = {}});
  EXPECT_EQ(empty.find("nan"), std::string::npos);
  EXPECT_EQ(empty.find("inf"), std::string::npos);
}

TEST(HtmlPage, EscapesAndEncodes) {
  EXPECT_EQ(html_escape("<a href=\"x\">&\xff"), "&lt;a href=&quot;x&quot;&gt;&amp;\xEF\xBF\xBD");
  EXPECT_EQ(script_json("</script>"), "\"\\u003c/script>\"");
  EXPECT_EQ(base64(""), "");
  EXPECT_EQ(base64("M"), "TQ==");
  EXPECT_EQ(base64("Ma"), "TWE=");
  EXPECT_EQ(base64("Man"), "TWFu");
  EXPECT_EQ(base64(std::string("\xff\x00\xfe", 3)), "/wD+");
}

}  // namespace
}  // namespace sepllm
