// A small HTTP client over a plain socket, for tests of the server: it can also send what is no request, stop
// in the middle, and leave.
#pragma once

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "base/json.h"

namespace sepllm::test {

struct HttpAnswer {
  int status = 0;                                // 0: the connection ended before there was an answer
  std::map<std::string, std::string> headers{};  // names in lower case
  std::string body{};
  bool complete = false;  // the body has the length that was promised

  Json json() const { return parse_json(body, "the answer"); }
};

class HttpClient {
 public:
  explicit HttpClient(int64_t port, int receive_buffer = 0) : fd_(::socket(AF_INET, SOCK_STREAM, 0)) {
    if (receive_buffer > 0) ::setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(static_cast<uint16_t>(port));
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const timeval limit{.tv_sec = 20, .tv_usec = 0};  // a test that hangs fails instead
    ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    if (::connect(fd_, reinterpret_cast<sockaddr*>(&to), sizeof to) != 0) ADD_FAILURE() << "cannot connect";
  }
  ~HttpClient() { leave(); }
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;

  void leave() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }
  void send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t n = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (n <= 0) return;  // the server has closed: the test sees it when it reads
      bytes.remove_prefix(static_cast<size_t>(n));
    }
  }
  void end_sending() { ::shutdown(fd_, SHUT_WR); }

  static std::string request_text(const std::string& method, const std::string& path, const std::string& body,
                                  const std::string& headers = "") {
    return method + " " + path + " HTTP/1.1\r\nHost: test\r\n" + headers +
           (body.empty() ? "" : "Content-Length: " + std::to_string(body.size()) + "\r\n") + "\r\n" + body;
  }
  HttpAnswer get(const std::string& path, const std::string& headers = "") {
    send(request_text("GET", path, "", headers));
    return read();
  }
  HttpAnswer post(const std::string& path, const Json& body, const std::string& headers = "") {
    send(request_text("POST", path, json_text(body), headers));
    return read();
  }

  // The next answer. `has_body` false: the answer to HEAD.
  HttpAnswer read(bool has_body = true) {
    HttpAnswer answer;
    const auto head = take_until("\r\n\r\n");
    if (!head) return answer;
    answer.status = std::stoi(head->substr(9, 3));
    size_t at = head->find("\r\n") + 2;
    while (at < head->size() - 2) {
      const size_t end = head->find("\r\n", at), colon = head->find(':', at);
      std::string name = head->substr(at, colon - at);
      std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return std::tolower(c); });
      answer.headers[name] = head->substr(colon + 2, end - colon - 2);
      at = end + 2;
    }
    if (!has_body || answer.status == 204) {
      answer.complete = true;
    } else if (answer.headers.contains("content-length")) {
      const auto n = static_cast<size_t>(std::stoll(answer.headers["content-length"]));
      while (in_.size() < n && more()) {
      }
      answer.complete = in_.size() >= n;
      answer.body = take(std::min(n, in_.size()));
    } else {
      answer.complete = read_chunks(answer.body);
    }
    return answer;
  }
  // The next `n` bytes or fewer; empty: the connection has ended.
  std::string read_some() {
    if (in_.empty()) more();
    return take(in_.size());
  }
  // Reads until the bytes that came contain this.
  bool read_until(const std::string& text) {
    while (in_.find(text) == std::string::npos) {
      if (!more()) return false;
    }
    return true;
  }
  bool has(const std::string& text) const { return in_.find(text) != std::string::npos; }  // so far
  bool ended() {
    while (more()) {
    }
    return ended_;
  }

 private:
  bool more() {
    char buffer[65536];
    const ssize_t n = ::recv(fd_, buffer, sizeof buffer, 0);
    if (n > 0) in_.append(buffer, static_cast<size_t>(n));
    ended_ = n == 0 || (n < 0 && errno == ECONNRESET);
    return n > 0;
  }
  std::string take(size_t n) {
    std::string out = in_.substr(0, n);
    in_.erase(0, n);
    return out;
  }
  std::optional<std::string> take_until(const std::string& end) {
    if (!read_until(end)) return std::nullopt;
    return take(in_.find(end) + end.size());
  }
  bool read_chunks(std::string& body) {
    while (true) {
      const auto size = take_until("\r\n");
      if (!size) return false;
      const auto n = static_cast<size_t>(std::stoull(*size, nullptr, 16));
      while (in_.size() < n + 2) {
        if (!more()) return false;
      }
      body += take(n);
      take(2);
      if (n == 0) return true;
    }
  }

  int fd_;
  std::string in_;
  bool ended_ = false;
};

}  // namespace sepllm::test
