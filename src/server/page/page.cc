#include "server/page/page.h"

#include <string_view>

namespace sepllm::server {

std::string_view page_security_policy() {
  return "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; "
         "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
}

}  // namespace sepllm::server
