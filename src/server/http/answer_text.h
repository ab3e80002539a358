// The bytes of an answer on the wire.
#pragma once

#include <cstdint>
#include <ctime>
#include <optional>
#include <string>
#include <string_view>

#include "server/http/http_message.h"

namespace sepllm::server {

// How the end of a body is told.
enum class BodyFraming {
  kLength,   // Content-Length
  kChunked,  // a stream in HTTP/1.1
  kClose     // a stream in HTTP/1.0: the connection ends
};

struct AnswerHead {
  BodyFraming framing = BodyFraming::kLength;
  int64_t length = 0;      // for kLength: of the body
  bool keep_alive = true;  // else "Connection: close"
  bool http_1_0 = false;   // of the request: keeping alive must be said
  std::string_view id{};   // x-request-id
  std::time_t time = 0;
};

// Status line and headers (`more`: of every answer), with the empty line at their end.
std::string head_text(const HttpResponse& response, const HttpHeaders& more, const AnswerHead& head);
// A piece of a chunked body; `data` is not empty, because an empty one would be the end.
std::string chunk_text(std::string_view data);
inline constexpr std::string_view kLastChunk = "0\r\n\r\n";
// "Mon, 30 Nov 2026 12:00:00 GMT", whatever the locale.
std::string http_date(std::time_t time);

}  // namespace sepllm::server
