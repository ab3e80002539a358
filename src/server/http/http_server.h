// HTTP/1.1 over TCP: connections, limits, time-outs. It knows nothing about models; what is answered comes
// from a handler. One thread reads and writes for all connections, so idle ones cost no thread. The client of
// a request is watched until its answer is complete: if it leaves, the request learns of it at once.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "server/http/http_message.h"

namespace sepllm::server {

// One request and its answer. All functions may be called from any thread. After the answer is complete, or
// when the client has gone, further calls have no effect. If the last reference goes without an answer, the
// client gets status 500.
class HttpExchange {
 public:
  virtual ~HttpExchange() = default;

  virtual const HttpRequest& request() const = 0;
  // The whole answer.
  virtual void respond(HttpResponse response) = 0;
  // Or in pieces: start_stream (of the response's status, type and headers; its body is the first piece),
  // write..., finish. A client that reads too slowly (HttpLimits::pending_bytes) is disconnected.
  virtual void start_stream(HttpResponse head) = 0;
  virtual void write(std::string data) = 0;
  virtual void finish() = 0;
  // Ends the connection in the middle of a stream, so that the client sees an incomplete answer.
  virtual void abort() = 0;
  // From now on `data` is written whenever nothing was written for this long.
  virtual void keep_alive(double seconds, std::string data) = 0;
  // Whether the client has left before the answer was complete.
  virtual bool gone() const = 0;
  // Called once, from any thread, if the client leaves before the answer is complete (at once if it has
  // left).
  virtual void set_on_gone(std::function<void()> on_gone) = 0;
  // Text for the access log, such as the numbers of tokens.
  virtual void set_note(std::string note) = 0;
};
using HttpExchangePtr = std::shared_ptr<HttpExchange>;

struct HttpLimits {
  int64_t header_bytes = 16 << 10;  // request line and headers
  int64_t body_bytes = 8 << 20;
  int64_t connections = 256;        // further ones get status 503
  int64_t pending_bytes = 1 << 20;  // of a stream that the client does not read
  int64_t ahead_bytes = 64 << 10;   // that a client may send before it has its answer
  double request_seconds = 30.0;    // from the connection, or the first byte, to the end of a request
  double idle_seconds = 60.0;       // between requests
  double write_seconds = 60.0;      // without a byte that the client takes
};

// A finished exchange, for the access log and for metrics.
struct HttpRecord {
  const HttpRequest& request;
  int status;          // 499 if the client left before the answer began
  int64_t body_bytes;  // sent
  double seconds;      // from the request's last byte to the answer's last
  bool gone;           // the client left before the answer was complete
  const std::string& note;
};

struct HttpSettings {
  std::string host = "127.0.0.1";  // an address, or a name that stands for one
  int64_t port = 8080;             // 0: any that is free
  HttpLimits limits{};
  // Called from the server's thread for each request: it must return quickly, and may answer later.
  std::function<void(HttpExchangePtr)> handler{};
  // The body of an answer that the server gives by itself (a request that is no HTTP, too large, too slow).
  std::function<std::string(int status, const std::string& message)> error_body{};
  HttpHeaders headers{};                             // of every answer
  std::function<void(const HttpRecord&)> on_done{};  // may be empty; called from the server's thread
};

class HttpServer {
 public:
  // Listens; the thread starts. Error (kIo) naming host and port if that is not possible.
  explicit HttpServer(HttpSettings settings);
  ~HttpServer();  // closes everything
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  int64_t port() const;
  // From now on every answer ends its connection, and no answer means an idle connection is closed; new
  // connections are still taken.
  void close_after_answers();
  // True when no request is in work and all answers are sent, within this time.
  bool wait_quiet(double seconds);
  int64_t n_connections() const;

  class Impl;

 private:
  std::shared_ptr<Impl> impl_;
};

}  // namespace sepllm::server
