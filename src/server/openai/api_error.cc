#include "server/openai/api_error.h"

#include <cstddef>
#include <string>

#include "base/error.h"
#include "base/json.h"

namespace sepllm::server {
namespace {

const char* error_type(int status) {
  switch (status) {
    case 401:
      return "authentication_error";
    case 403:
      return "permission_error";
    case 404:
      return "not_found_error";
    case 429:
      return "rate_limit_error";
    case 503:
      return "unavailable_error";
    default:
      return status >= 500 ? "server_error" : "invalid_request_error";
  }
}

std::string without_folders(const std::string& text) {
  const size_t slash = text.rfind('/', text.find(": "));
  return slash == std::string::npos ? text : text.substr(slash + 1);
}

Json text_or_null(const std::string& text) { return text.empty() ? Json() : Json(text); }

}  // namespace

Json error_json(const ApiError& error) {
  return {{"error",
           {{"message", error.message},
            {"type", error_type(error.status)},
            {"param", text_or_null(error.param)},
            {"code", text_or_null(error.code)}}}};
}

HttpResponse error_response(const ApiError& error) {
  HttpResponse response{.status = error.status, .body = json_text(error_json(error))};
  if (error.retry_after_seconds > 0)
    response.headers.emplace_back("Retry-After", std::to_string(error.retry_after_seconds));
  if (error.status == 401) response.headers.emplace_back("WWW-Authenticate", "Bearer");
  return response;
}

ApiError as_api_error(const Error& error, const std::string& param) {
  const auto write = [](const std::string& name) { return "sepllm." + name; };
  const std::string named = error.option().empty() ? param : write(error.option());
  return {400, write_options(without_folders(error.marked_text()), write), named};
}

ApiError queue_full() {
  ApiError error(429, "the queue of requests is full", "", "queue_full");
  error.retry_after_seconds = 1;
  return error;
}

ApiError shutting_down() {
  ApiError error(503, "the server is shutting down", "", "shutting_down");
  error.retry_after_seconds = 5;
  return error;
}

}  // namespace sepllm::server
