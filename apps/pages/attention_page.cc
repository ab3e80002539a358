#include "apps/pages/attention_page.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <string>

#include "apps/pages/html_page.h"

namespace sepllm {
namespace {

constexpr const char* kStyle = R"(
.passage { font: 14px/1.9 ui-monospace, "DejaVu Sans Mono", monospace; white-space: pre-wrap; overflow-wrap: anywhere; }
.passage span { border-radius: 3px; padding: 1px 0; }
.k0 { box-shadow: inset 0 -2px 0 var(--c1); } .k1 { box-shadow: inset 0 -2px 0 var(--c2); }
.passage .query { outline: 2px solid var(--ink); outline-offset: 0; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 18px; font-size: 13.5px; color: var(--muted); margin: 8px 0; }
.legend i { display: inline-block; width: 12px; height: 12px; border-radius: 2px; margin-right: 6px; vertical-align: -1px; }
.b0 { background: var(--c1); } .b1 { background: var(--c2); } .b2 { background: var(--c3); } .b3 { background: var(--c0); }
.bars { display: grid; grid-template-columns: auto auto 1fr; gap: 3px 10px; align-items: center; font-size: 13.5px; }
.bars .name { grid-row: span 2; font-weight: 600; padding-right: 8px; } .bars .of { color: var(--muted); }
.bar { display: flex; height: 16px; border-radius: 3px; overflow: hidden; } .bar.thin { height: 8px; opacity: .55; margin-bottom: 8px; }
.bar b { font-weight: 500; font-size: 11px; line-height: 16px; color: #fff; text-align: center; overflow: hidden; }
@media (prefers-color-scheme: dark) { .bar b { color: #10131a; } }
.maps { display: grid; grid-template-columns: repeat(auto-fill, minmax(250px, 1fr)); gap: 14px; }
figure { margin: 0; } figure canvas { width: 100%; image-rendering: pixelated; display: block; cursor: crosshair; }
figcaption { margin-bottom: 6px; }
#tip { position: fixed; z-index: 9; pointer-events: none; background: var(--ink); color: var(--paper); padding: 5px 9px;
  border-radius: 5px; font: 12.5px/1.4 ui-monospace, "DejaVu Sans Mono", monospace; display: none; white-space: pre; }
.up { font-weight: 700; }
)";

// The script draws each map into a canvas: a strip of classes at the top and at the left, then the weights,
// shaded by their square root so that small ones are visible.
constexpr const char* kScript = R"(
const data = JSON.parse(document.getElementById('data').textContent);
const strip = 2, n = data.pieces.length;
const css = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const marks = ['--c1', '--c2', '--line', '--line'];
const tip = document.getElementById('tip');
const words = [...document.querySelectorAll('.passage span')];
const show = i => JSON.stringify(data.pieces[i]).slice(1, -1) + ' (' + i + ')';
function clear() {
  tip.style.display = 'none';
  words.forEach(w => { w.style.background = ''; w.classList.remove('query'); });
}
data.maps.forEach((map, m) => {
  const bytes = Uint8Array.from(atob(map.weights), c => c.charCodeAt(0));
  const weight = (i, j) => { const p = 2 * (i * (i + 1) / 2 + j); return (bytes[p] + 256 * bytes[p + 1]) / 65535; };
  const canvas = document.getElementById('map' + m);
  canvas.width = canvas.height = n + strip;
  const ink = canvas.getContext('2d');
  function draw() {
    ink.clearRect(0, 0, n + strip, n + strip);
    const heat = css('--heat');
    for (let i = 0; i < n; ++i) {
      ink.fillStyle = css(marks[data.classes[i]]);
      ink.fillRect(strip + i, 0, 1, strip - .6);
      ink.fillRect(0, strip + i, strip - .6, 1);
      for (let j = 0; j <= i; ++j) {
        ink.fillStyle = `rgba(${heat},${Math.min(1, .03 + Math.sqrt(weight(i, j)))})`;
        ink.fillRect(strip + j, strip + i, 1, 1);
      }
    }
  }
  draw();
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', draw);
  canvas.addEventListener('mousemove', e => {
    const box = canvas.getBoundingClientRect(), scale = (n + strip) / box.width;
    const j = Math.floor((e.clientX - box.left) * scale) - strip;
    const i = Math.floor((e.clientY - box.top) * scale) - strip;
    clear();
    if (i < 0 || j < 0 || i >= n || j > i) return;
    tip.textContent = 'query ' + show(i) + '\nkey   ' + show(j) + '\nweight ' + weight(i, j).toFixed(4);
    tip.style.display = 'block';
    tip.style.left = Math.min(e.clientX + 14, innerWidth - tip.offsetWidth - 8) + 'px';
    tip.style.top = Math.min(e.clientY + 14, innerHeight - tip.offsetHeight - 8) + 'px';
    for (let k = 0; k <= i; ++k) words[k].style.background = `rgba(${css('--heat')},${Math.sqrt(weight(i, k)) * .8})`;
    words[i].classList.add('query');
  });
  canvas.addEventListener('mouseleave', clear);
});
)";

std::string legend() {
  std::string out = "<div class=\"legend\">";
  for (size_t c = 0; c < kTokenClasses; ++c) {
    out +=
        fmt::format("<span><i class=\"b{}\"></i>{}</span>", c, token_class_name(static_cast<TokenClass>(c)));
  }
  return out + "</div>\n";
}

std::string passage(const AttentionReport& report) {
  std::string out = "<div class=\"card passage\">";
  for (size_t i = 0; i < report.pieces.size(); ++i) {
    out += fmt::format("<span class=\"k{}\">{}</span>", static_cast<int>(report.classes[i]),
                       html_escape(report.pieces[i]));
  }
  return out + "</div>\n";
}

std::string bar(const std::array<double, kTokenClasses>& shares, bool thin) {
  std::string out = thin ? "<div class=\"bar thin\">" : "<div class=\"bar\">";
  for (size_t c = 0; c < kTokenClasses; ++c) {
    const std::string label = !thin && shares[c] >= 0.05 ? fmt::format("{:.0f} %", 100 * shares[c]) : "";
    out += fmt::format("<b class=\"b{}\" style=\"width:{:.2f}%\">{}</b>", c, 100 * shares[c], label);
  }
  return out + "</div>";
}

std::string share_bars(const AttentionReport& report) {
  std::string out = "<div class=\"card bars\">";
  for (size_t l = 0; l < report.shares.size(); ++l) {
    const ClassShares& s = report.shares[l];
    out += fmt::format(
        "<div class=\"name\">layer {}</div><div class=\"of\">attention</div>{}<div "
        "class=\"of\">tokens</div>{}\n",
        l, bar(s.attention, false), bar(s.tokens, true));
  }
  return out + "</div>\n";
}

std::string share_table(const AttentionReport& report) {
  std::string out = "<div class=\"card scroll\"><table class=\"wide\"><tr><th>layer</th>";
  for (size_t c = 0; c < kTokenClasses; ++c) {
    out += fmt::format("<th>{}</th><th>of tokens</th><th>ratio</th>",
                       token_class_name(static_cast<TokenClass>(c)));
  }
  out += "</tr>\n";
  for (size_t l = 0; l < report.shares.size(); ++l) {
    const ClassShares& s = report.shares[l];
    out += fmt::format("<tr><td>{}</td>", l);
    for (size_t c = 0; c < kTokenClasses; ++c) {
      const double ratio = s.tokens[c] > 0 ? s.attention[c] / s.tokens[c] : 0.0;
      out += fmt::format("<td>{:.1f} %</td><td>{:.1f} %</td><td{}>{:.1f}</td>", 100 * s.attention[c],
                         100 * s.tokens[c], ratio >= 1.5 ? " class=\"up\"" : "", ratio);
    }
    out += "</tr>\n";
  }
  return out + "</table></div>\n";
}

Json map_json(const HeadMap& map) {
  std::string bytes;
  for (const float w : map.weights) {
    const auto level = static_cast<unsigned>(std::lround(std::clamp(w, 0.0F, 1.0F) * 65535.0F));
    bytes += static_cast<char>(level & 255U);
    bytes += static_cast<char>(level >> 8U);
  }
  return {{"weights", base64(bytes)}};
}

std::string map_figures(const AttentionReport& report) {
  std::string out = "<div class=\"maps\">\n";
  for (size_t m = 0; m < report.maps.size(); ++m) {
    out += fmt::format(
        "<figure class=\"card\"><figcaption>layer {}, head {}</figcaption><canvas "
        "id=\"map{}\"></canvas></figure>\n",
        report.maps[m].layer, report.maps[m].head, m);
  }
  return out + "</div>\n";
}

std::string data_element(const AttentionReport& report) {
  Json data = {{"pieces", report.pieces}, {"classes", Json::array()}, {"maps", Json::array()}};
  for (const TokenClass c : report.classes) data["classes"].push_back(static_cast<int>(c));
  for (const HeadMap& m : report.maps) data["maps"].push_back(map_json(m));
  return "<script type=\"application/json\" id=\"data\">" + script_json(data) + "</script>\n";
}

}  // namespace

std::string attention_page(const AttentionReport& report) {
  std::string body = fmt::format(
      "<p class=\"note\">Model <code>{}</code>, full attention over the first {} tokens of "
      "<code>{}</code>.</p>\n",
      html_escape(report.model), report.n_scored, html_escape(report.source));
  body += "<h2>What each layer attends to</h2>\n";
  body += fmt::format(
      "<p>The upper bar of a layer shows which share of its attention goes to each class of tokens, averaged "
      "over "
      "heads and queries. The thin bar below shows which share of the visible tokens belongs to each class. "
      "Where the attention of a class is much wider than its tokens, the model gets much from few "
      "tokens.</p>\n"
      "<p class=\"note\">Each key is in exactly one class, the first one that fits: <b>initial</b> (the "
      "first {} "
      "tokens), <b>separator</b> (rule <code>{}</code>), <b>neighbouring</b> (less than {} tokens back, "
      "including the query itself), <b>other</b>.</p>\n",
      report.init, html_escape(report.separators), report.window);
  body += legend() + share_bars(report);
  body +=
      "<h2>The same in numbers</h2>\n<p class=\"note\">The ratio is the share of the attention divided by "
      "the share of the tokens; "
      "1.5 and more is in bold.</p>\n" +
      share_table(report);
  body += fmt::format(
      "<h2>Heat maps</h2>\n<p>These maps show the first {} tokens. Rows are queries and columns are keys; "
      "the strips at "
      "the top and left mark initial tokens and separators. Point at a map to read a weight and to "
      "shade the passage by what that query attends to.</p>\n",
      report.pieces.size());
  body += legend() + passage(report) + "<p></p>\n" + map_figures(report);
  body += "<div id=\"tip\"></div>\n" + data_element(report) + "<script>" + kScript + "</script>\n" +
          provenance_html(report.program);
  return html_page("Where attention goes", kStyle, body);
}

}  // namespace sepllm
