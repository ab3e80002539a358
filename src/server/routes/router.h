// Which endpoint answers a request.
#pragma once

#include <functional>
#include <string>

#include "server/routes/api.h"

namespace sepllm::server {

struct Route {
  const char* method;
  const char* path;  // without /v1, which may be written before all of them
  bool open;         // needs no key
  bool prefix;       // what follows the path belongs to it
  // Answers the request, at once or later. May throw ApiError and Error.
  std::function<void(Api&, const HttpExchangePtr&)> run;
};

// The route for a method and path. ApiError: 404, or 405 (whose `param` lists what is allowed there).
const Route& find_route(const std::string& method, const std::string& path);
// The route's path for metrics: a client cannot make up new ones.
std::string route_label(const std::string& path);
// "GET, HEAD": the methods of a path; empty if there is no such path.
std::string allowed_methods(const std::string& path);

}  // namespace sepllm::server
