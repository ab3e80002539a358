// The server: endpoints over HTTP, with keys, CORS and the orderly end.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "server/routes/api.h"

namespace sepllm::server {

struct AccessRecord {
  std::string method, path;  // the path is cut, and safe to print
  int status = 0;
  int64_t bytes = 0;
  double seconds = 0.0;
  std::string id, peer, note;
};

class ApiServer {
 public:
  // `http`: host, port and limits; the rest is filled in here. `log`: called for each answered request, from
  // the server's thread. `model` and the pool and arena of `context` must outlive the server. Error (kIo).
  ApiServer(const Model& model, const Context& context, ApiSettings settings, HttpSettings http,
            std::function<void(const AccessRecord&)> log);
  ~ApiServer();  // ends everything at once
  ApiServer(const ApiServer&) = delete;
  ApiServer& operator=(const ApiServer&) = delete;

  int64_t port() const { return http_->port(); }
  // The orderly end begins: /health says 503, no new request for text is taken, and answers end their
  // connections.
  void begin_drain();
  // True when all requests have ended and their answers are sent, within this time.
  bool wait_drained(double seconds);
  // Ends what still runs; its clients are told so.
  void cancel_all() { api_->service.cancel_all(); }

 private:
  void handle(const HttpExchangePtr& exchange);

  std::unique_ptr<Api> api_;
  std::unique_ptr<HttpServer> http_;
};

}  // namespace sepllm::server
