// Self-contained HTML pages: one style for light and dark, nothing loaded from elsewhere.
#pragma once

#include <string>
#include <string_view>

#include "base/json.h"

namespace sepllm {

// Text for element content and quoted attributes; bytes that are not UTF-8 are replaced.
std::string html_escape(std::string_view text);

// A JSON value that may stand inside a <script> element.
std::string script_json(const Json& value);

std::string base64(std::string_view bytes);

// The paragraph that says where a page's figures come from; empty for null.
std::string provenance_html(const Json& program);

// A whole page. `style`: rules in addition to the common ones (colours are the variables --ink, --muted,
// --line, --paper, --card, --c0 to --c5); `body`: everything after the <h1>.
std::string html_page(const std::string& title, const std::string& style, const std::string& body);

}  // namespace sepllm
