// What the two ends of an exchange share: the connection, in the server's thread, and whoever answers, in any
// thread.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>

#include "server/http/http_server.h"

namespace sepllm::server {

struct ExchangeState {
  HttpRequest request;
  bool is_head = false, http_1_0 = false, keep_alive = true;  // of the request
  std::chrono::steady_clock::time_point received{};
  std::atomic<bool> gone{false};
  std::mutex mutex;  // for what follows
  std::function<void()> on_gone{};
  std::string note{};
  bool ended = false;  // on_gone will not be called any more

  std::function<void()> take_on_gone() {
    const std::lock_guard lock(mutex);
    ended = true;
    return std::exchange(on_gone, nullptr);
  }
  std::string take_note() {
    const std::lock_guard lock(mutex);
    return std::exchange(note, "");
  }
};
using ExchangeStatePtr = std::shared_ptr<ExchangeState>;

// The connection as an exchange sees it. Except for post(), all functions are called in the server's thread;
// for an exchange that is over they do nothing.
class AnswerTarget {
 public:
  virtual ~AnswerTarget() = default;
  // Runs `call` in the server's thread; does nothing after the server's end.
  virtual void post(std::function<void()> call) = 0;
  virtual void respond(const ExchangeStatePtr& exchange, const HttpResponse& response) = 0;
  virtual void start_stream(const ExchangeStatePtr& exchange, const HttpResponse& head) = 0;
  virtual void write(const ExchangeStatePtr& exchange, std::string_view data) = 0;
  virtual void finish(const ExchangeStatePtr& exchange) = 0;
  virtual void abort(const ExchangeStatePtr& exchange) = 0;
  virtual void keep_alive(const ExchangeStatePtr& exchange, double seconds, const std::string& data) = 0;
  virtual void abandon(const ExchangeStatePtr& exchange) = 0;  // nobody will answer it
};

// The handle of whoever answers.
HttpExchangePtr make_exchange(std::shared_ptr<AnswerTarget> target, ExchangeStatePtr state);

}  // namespace sepllm::server
