#include "server/http/exchange.h"

#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

namespace sepllm::server {
namespace {

class Exchange : public HttpExchange {
 public:
  Exchange(std::shared_ptr<AnswerTarget> target, ExchangeStatePtr state)
      : target_(std::move(target)), state_(std::move(state)) {}
  ~Exchange() override {
    post([](AnswerTarget& t, const ExchangeStatePtr& s) { t.abandon(s); });
  }

  const HttpRequest& request() const override { return state_->request; }
  void respond(HttpResponse response) override {
    post([r = std::move(response)](AnswerTarget& t, const ExchangeStatePtr& s) { t.respond(s, r); });
  }
  void start_stream(HttpResponse head) override {
    post([h = std::move(head)](AnswerTarget& t, const ExchangeStatePtr& s) { t.start_stream(s, h); });
  }
  void write(std::string data) override {
    post([d = std::move(data)](AnswerTarget& t, const ExchangeStatePtr& s) { t.write(s, d); });
  }
  void finish() override {
    post([](AnswerTarget& t, const ExchangeStatePtr& s) { t.finish(s); });
  }
  void abort() override {
    post([](AnswerTarget& t, const ExchangeStatePtr& s) { t.abort(s); });
  }
  void keep_alive(double seconds, std::string data) override {
    post([=, d = std::move(data)](AnswerTarget& t, const ExchangeStatePtr& s) {
      t.keep_alive(s, seconds, d);
    });
  }
  bool gone() const override { return state_->gone; }
  void set_on_gone(std::function<void()> on_gone) override {
    {
      const std::lock_guard lock(state_->mutex);
      if (!state_->ended) {
        state_->on_gone = std::move(on_gone);
        return;
      }
    }
    if (state_->gone) on_gone();
  }
  void set_note(std::string note) override {
    const std::lock_guard lock(state_->mutex);
    state_->note = std::move(note);
  }

 private:
  template <typename Fn>
  void post(Fn fn) {
    target_->post([target = target_, state = state_, call = std::move(fn)] { call(*target, state); });
  }

  std::shared_ptr<AnswerTarget> target_;
  ExchangeStatePtr state_;
};

}  // namespace

HttpExchangePtr make_exchange(std::shared_ptr<AnswerTarget> target, ExchangeStatePtr state) {
  return std::make_shared<Exchange>(std::move(target), std::move(state));
}

}  // namespace sepllm::server
