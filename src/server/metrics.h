// What GET /metrics tells: the server's own names (sepllm:...) and those of vLLM's metrics that mean the
// same, so that existing dashboards work. May be used from any thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "server/openai/usage.h"
#include "server/service.h"

namespace sepllm::server {

class Metrics {
 public:
  // `model_name`: the label of vLLM's metrics.
  explicit Metrics(const std::string& model_name);
  ~Metrics();

  // An HTTP request was answered. `handler`: the route, not what a client writes.
  void http_request(const std::string& handler, const std::string& method, int status);
  void first_token(double seconds);  // since the request arrived
  void next_token(double seconds);   // since the token before, as the client sees it
  // A request for text has ended; `finish_reason`: "stop", "length", "abort", "error".
  void request_done(const Usage& usage, double seconds, const std::string& finish_reason);

  // The text of the exposition format 0.0.4, with the service's state at this moment.
  std::string text(const ServiceState& state, int64_t n_connections);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace sepllm::server
