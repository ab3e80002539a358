#include "server/routes/router.h"

#include <fmt/format.h>

#include <string>
#include <string_view>
#include <vector>

#include "server/openai/api_error.h"

namespace sepllm::server {
namespace {

using Answer = HttpResponse (*)(const Api&, const HttpRequest&);

Route get(const char* path, Answer answer, bool open = false, bool prefix = false) {
  return {"GET", path, open, prefix,
          [answer](Api& api, const HttpExchangePtr& e) { e->respond(answer(api, e->request())); }};
}

Route post(const char* path, Answer answer) {
  return {"POST", path, false, false,
          [answer](Api& api, const HttpExchangePtr& e) { e->respond(answer(api, e->request())); }};
}

const std::vector<Route>& routes() {
  static const std::vector<Route> kRoutes = {
      {"POST", "/completions", false, false, complete},
      {"POST", "/chat/completions", false, false, chat_complete},
      get("/models", list_models),
      get("/models/", show_model, false, true),
      post("/tokenize", tokenize),
      post("/detokenize", detokenize),
      post("/apply-template", apply_template),
      get("/tokenizer_info", tokenizer_info),
      get("/health", health, true),
      {"GET", "/metrics", false, false,
       [](Api& api, const HttpExchangePtr& e) { e->respond(show_metrics(api, e->request())); }},
      get("/slots", slots),
      get("/", show_page, true)};
  return kRoutes;
}

bool matches(const Route& route, std::string_view path) {
  if (path.starts_with("/v1/")) path.remove_prefix(3);
  const std::string_view own = route.path;
  return route.prefix ? path.starts_with(own) && path.size() > own.size() : path == own;
}

}  // namespace

const Route& find_route(const std::string& method, const std::string& path) {
  const std::string wanted = method == "HEAD" ? "GET" : method;
  for (const Route& route : routes()) {
    if (matches(route, path) && wanted == route.method) return route;
  }
  const std::string allowed = allowed_methods(path);
  if (allowed.empty())
    throw ApiError(404, fmt::format("there is nothing at {}", path.substr(0, 200)), "", "not_found");
  throw ApiError(405, fmt::format("{} does not take {}; allowed: {}", path, method.substr(0, 20), allowed),
                 "", "method_not_allowed");
}

std::string route_label(const std::string& path) {
  for (const Route& route : routes()) {
    if (matches(route, path)) return route.path;
  }
  return "other";
}

std::string allowed_methods(const std::string& path) {
  std::string out;
  for (const Route& route : routes()) {
    if (!matches(route, path)) continue;
    if (!out.empty()) out += ", ";
    out += route.method;
    if (std::string_view(route.method) == "GET") out += ", HEAD";
  }
  return out.empty() ? out : out + ", OPTIONS";
}

}  // namespace sepllm::server
