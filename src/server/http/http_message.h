// Requests and responses of HTTP, as the endpoints see them.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace sepllm::server {

using HttpHeaders = std::vector<std::pair<std::string, std::string>>;

struct HttpRequest {
  std::string method;  // "GET", "POST", ...
  std::string path;    // percent-encoding resolved, without the query: "/v1/models"
  std::string query;   // as sent, without the question mark
  HttpHeaders headers{};
  std::string body{};
  // Of the answer's header x-request-id: the client's own, if it looks like one, else a new one.
  std::string id{};
  std::string peer{};  // "127.0.0.1:51234"

  // The value of a header, whose name may be written in upper or lower case; the first one if it was sent
  // several times.
  std::optional<std::string_view> header(std::string_view name) const;
};

struct HttpResponse {
  int status = 200;
  std::string content_type = "application/json";
  std::string body{};
  HttpHeaders headers{};
};

// "Not Found"; "Unknown" for a status that this program does not use.
const char* reason_phrase(int status);

// A path with %XX resolved; nullopt for bad escapes and for bytes that are not UTF-8 or are control
// characters.
std::optional<std::string> decode_path(std::string_view target);

// "http://host/path", which a proxy sends, is "/path".
std::string_view without_authority(std::string_view target);

// The client's own x-request-id if it is short and of harmless characters.
std::optional<std::string> sane_request_id(std::string_view id);
// "req_" and 24 hexadecimal digits, different for every call (also after a restart).
std::string new_request_id();

// Equal texts, compared in a time that depends on `given` only.
bool equal_in_constant_time(std::string_view secret, std::string_view given);

}  // namespace sepllm::server
