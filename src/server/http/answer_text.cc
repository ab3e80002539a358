#include "server/http/answer_text.h"

#include <fmt/format.h>

#include <ctime>
#include <string>
#include <string_view>

#include "base/check.h"

namespace sepllm::server {

std::string http_date(std::time_t time) {
  constexpr const char* kDays[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
  constexpr const char* kMonths[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                     "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  std::tm tm{};
  gmtime_r(&time, &tm);
  return fmt::format("{}, {:02} {} {:04} {:02}:{:02}:{:02} GMT", kDays[tm.tm_wday], tm.tm_mday,
                     kMonths[tm.tm_mon], tm.tm_year + 1900, tm.tm_hour, tm.tm_min, tm.tm_sec);
}

std::string head_text(const HttpResponse& response, const HttpHeaders& more, const AnswerHead& head) {
  std::string out =
      fmt::format("HTTP/1.1 {} {}\r\nServer: sepllm\r\nDate: {}\r\nx-request-id: {}\r\n", response.status,
                  reason_phrase(response.status), http_date(head.time), head.id);
  for (const HttpHeaders* headers : {&response.headers, &more}) {
    for (const auto& [name, value] : *headers) out.append(name).append(": ").append(value).append("\r\n");
  }
  const bool has_body = response.status != 204;
  if (has_body) out += "Content-Type: " + response.content_type + "\r\n";
  if (head.framing == BodyFraming::kChunked) out += "Transfer-Encoding: chunked\r\n";
  if (head.framing == BodyFraming::kLength && has_body) {
    out += fmt::format("Content-Length: {}\r\n", head.length);
  }
  if (!head.keep_alive) {
    out += "Connection: close\r\n";
  } else if (head.http_1_0) {
    out += "Connection: keep-alive\r\n";
  }
  return out + "\r\n";
}

std::string chunk_text(std::string_view data) {
  SEPLLM_CHECK(!data.empty());
  std::string out = fmt::format("{:x}\r\n", data.size());
  out.append(data);
  return out + "\r\n";
}

}  // namespace sepllm::server
