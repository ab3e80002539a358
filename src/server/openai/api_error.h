// What a client is told about a request that cannot be answered, in OpenAI's form.
#pragma once

#include <exception>
#include <string>
#include <utility>

#include "base/error.h"
#include "base/json.h"
#include "server/http/http_message.h"

namespace sepllm::server {

// An answer that is an error. Clients repeat a request after 408, 409, 429 and 5xx, so what a client did
// wrong is always another 4xx.
struct ApiError : std::exception {
  ApiError(int s, std::string m, std::string p = "", std::string c = "")
      : status(s), message(std::move(m)), param(std::move(p)), code(std::move(c)) {}
  const char* what() const noexcept override { return message.c_str(); }

  int status;
  std::string message;
  std::string param;            // the parameter that is wrong; empty: null
  std::string code;             // "model_not_found", ...; empty: null
  int retry_after_seconds = 0;  // > 0: the header Retry-After
};

// {"error": {"message", "type", "param", "code"}}; the type follows from the status.
Json error_json(const ApiError& error);
HttpResponse error_response(const ApiError& error);
// An Error about a request, with status 400; options in its text are written as members of "sepllm", and a
// file that it begins with without its folders, which are no client's business.
ApiError as_api_error(const Error& error, const std::string& param = "");
// The queue is full: 429.
ApiError queue_full();
// The server is about to end: 503.
ApiError shutting_down();

}  // namespace sepllm::server
