// What the endpoints share.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <ctime>
#include <string>
#include <vector>

#include "engine/model.h"
#include "server/http/http_server.h"
#include "server/metrics.h"
#include "server/openai/served_models.h"
#include "server/service.h"
#include "server/work_queue.h"
#include "text/chat_template.h"

namespace sepllm::server {

struct ApiSettings {
  std::vector<ServedModel> models{};  // not empty; the first one is the default
  SamplingSettings sampling{};        // what requests leave open
  ChatTemplate chat{};
  ServiceSettings service{};
  std::vector<std::string> api_keys{};  // empty: everybody may use the server
  std::string cors_origin{};            // empty: pages of other origins may not read answers
  int64_t max_tokens_default = 1024;    // of a chat that does not say max_tokens
  double keep_alive_seconds = 10.0;     // a stream that has nothing to say writes an empty chunk this often
};

// Larger bodies are worked on in a thread of their own, so that small ones do not wait for them.
inline constexpr size_t kLargeBody = 64 << 10;

struct Api {
  Api(const Model& m, const Context& context, ApiSettings s)
      : model(m),
        settings(std::move(s)),
        models(m.config(), settings.models),
        metrics(settings.models.front().name),
        service(m, context, settings.service) {}
  // Ends the work of requests, in the order in which one needs the other.
  ~Api() {
    small_work.stop();
    large_work.stop();
  }
  Api(const Api&) = delete;
  Api& operator=(const Api&) = delete;

  const Tokenizer* tokenizer() const { return model.tokenizer.get(); }
  WorkQueue& work_for(size_t n_bytes) { return n_bytes < kLargeBody ? small_work : large_work; }

  const Model& model;
  const ApiSettings settings;
  const ServedModels models;
  const std::time_t started = std::time(nullptr);
  std::atomic<bool> draining{false};
  std::atomic<const HttpServer*> http{nullptr};  // for /metrics
  Metrics metrics;
  WorkQueue small_work, large_work;
  Service service;  // declared last: its events use the others
};

// The endpoints, one function each. They may throw ApiError and Error; what they answer later they report to
// the exchange themselves.
void complete(Api& api, const HttpExchangePtr& exchange);                 // POST /v1/completions
void chat_complete(Api& api, const HttpExchangePtr& exchange);            // POST /v1/chat/completions
HttpResponse list_models(const Api& api, const HttpRequest& request);     // GET /v1/models
HttpResponse show_model(const Api& api, const HttpRequest& request);      // GET /v1/models/NAME
HttpResponse tokenize(const Api& api, const HttpRequest& request);        // POST /tokenize
HttpResponse detokenize(const Api& api, const HttpRequest& request);      // POST /detokenize
HttpResponse apply_template(const Api& api, const HttpRequest& request);  // POST /apply-template
HttpResponse tokenizer_info(const Api& api, const HttpRequest& request);  // GET /tokenizer_info
HttpResponse health(const Api& api, const HttpRequest& request);          // GET /health
HttpResponse show_metrics(Api& api, const HttpRequest& request);          // GET /metrics
HttpResponse slots(const Api& api, const HttpRequest& request);           // GET /slots
HttpResponse show_page(const Api& api, const HttpRequest& request);       // GET /

}  // namespace sepllm::server
