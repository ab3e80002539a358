// The page that the server shows at "/" (index.html, which is built into the program).
#pragma once

#include <string_view>

namespace sepllm::server {

std::string_view page_html();
// What the page may do, as the header Content-Security-Policy: only its own scripts and styles, and requests
// to the server that it came from.
std::string_view page_security_policy();

}  // namespace sepllm::server
