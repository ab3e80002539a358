#include "apps/pages/html_page.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "apps/shell/provenance.h"
#include "base/utf8.h"

namespace sepllm {
namespace {

constexpr const char* kCommonStyle = R"(
:root { color-scheme: light dark;
  --paper: #fbfbf9; --card: #ffffff; --ink: #1d2126; --muted: #667079; --line: #dcdfe2; --heat: 20,70,160;
  --c0: #7a828a; --c1: #0a6fc2; --c2: #d9560b; --c3: #14804a; --c4: #8a3ffc; --c5: #b88a00; }
@media (prefers-color-scheme: dark) { :root {
  --paper: #14171a; --card: #1c2024; --ink: #e4e7ea; --muted: #98a2ab; --line: #343a40; --heat: 120,180,255;
  --c0: #9aa3ab; --c1: #58b0f5; --c2: #ff8f4d; --c3: #4cc987; --c4: #b995ff; --c5: #e0bb45; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 28px 24px 64px; max-width: 1120px; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { font-size: 24px; line-height: 1.25; margin: 0 0 6px; } h2 { font-size: 18px; margin: 36px 0 6px; }
p { margin: 6px 0 12px; max-width: 78ch; } .note, figcaption { color: var(--muted); font-size: 13.5px; }
code { font: 0.92em ui-monospace, "DejaVu Sans Mono", monospace; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 14px 16px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 13.5px; }
table.wide { width: 100%; } td.text { text-align: left; }
th, td { padding: 5px 8px; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { font-weight: 600; color: var(--muted); } th:first-child, td:first-child { text-align: left; padding-left: 2px; }
tr:last-child td { border-bottom: 0; }
)";

}  // namespace

std::string html_escape(std::string_view text) {
  std::string out;
  for (const char c : utf8_sanitize(text)) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\0':
        out += "\xEF\xBF\xBD";
        break;
      default:
        out += c;
    }
  }
  return out;
}

std::string script_json(const Json& value) {
  std::string out;
  for (const char c : json_text(value)) {
    if (c == '<') {
      out += "\\u003c";
    } else {
      out += c;
    }
  }
  return out;
}

std::string base64(std::string_view bytes) {
  constexpr const char* kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  for (size_t i = 0; i < bytes.size(); i += 3) {
    uint32_t group = 0;
    const size_t n = std::min<size_t>(3, bytes.size() - i);
    for (size_t b = 0; b < 3; ++b) {
      group = group << 8 | (b < n ? static_cast<unsigned char>(bytes[i + b]) : 0U);
    }
    for (size_t d = 0; d < 4; ++d) out += d <= n ? kDigits[group >> (18 - 6 * d) & 63U] : '=';
  }
  return out;
}

std::string provenance_html(const Json& program) {
  if (program.is_null()) return "";
  return "<p class=\"note\">" + html_escape(provenance_line(program)) + "</p>\n";
}

std::string html_page(const std::string& title, const std::string& style, const std::string& body) {
  return "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
         "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>" +
         html_escape(title) + "</title>\n<style>" + kCommonStyle + style + "</style>\n</head>\n<body>\n<h1>" +
         html_escape(title) + "</h1>\n" + body + "</body>\n</html>\n";
}

}  // namespace sepllm
