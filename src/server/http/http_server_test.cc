#include "server/http/http_server.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/error.h"
#include "server/http/answer_text.h"
#include "tests/support/expect_error.h"
#include "tests/support/http_client.h"

namespace sepllm::server {
namespace {

using test::HttpAnswer;
using test::HttpClient;
using namespace std::chrono_literals;

// A server whose requests wait in a list until the test answers them; /echo is answered at once.
class HttpServerTest : public ::testing::Test {
 protected:
  void begin(const HttpLimits& limits = {}) {
    HttpSettings settings;
    settings.port = 0;
    settings.limits = limits;
    settings.handler = [this](const HttpExchangePtr& exchange) { take(exchange); };
    settings.error_body = [](int status, const std::string& message) {
      return "error " + std::to_string(status) + ": " + message;
    };
    settings.on_done = [this](const HttpRecord& record) {
      const std::lock_guard lock(mutex_);
      records_.push_back(record.request.path + " " + std::to_string(record.status) +
                         (record.gone ? " gone" : ""));
      changed_.notify_all();
    };
    server_ = std::make_unique<HttpServer>(std::move(settings));
  }
  void take(const HttpExchangePtr& exchange) {
    const HttpRequest& r = exchange->request();
    if (r.path == "/echo")
      return exchange->respond({.content_type = "text/plain", .body = r.method + r.body});
    if (r.path == "/forget") return;
    const std::lock_guard lock(mutex_);
    waiting_.push_back(exchange);
    changed_.notify_all();
  }
  HttpExchangePtr next() {
    std::unique_lock lock(mutex_);
    EXPECT_TRUE(changed_.wait_for(lock, 10s, [&] { return !waiting_.empty(); }));
    HttpExchangePtr out = waiting_.front();
    waiting_.erase(waiting_.begin());
    return out;
  }
  bool was_recorded(const std::string& line) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(
        lock, 10s, [&] { return std::find(records_.begin(), records_.end(), line) != records_.end(); });
  }
  int64_t port() const { return server_->port(); }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<HttpExchangePtr> waiting_;
  std::vector<std::string> records_;
  std::unique_ptr<HttpServer> server_;
};

// Waits until `exchange` has learned that its client has gone.
bool learns_of_it(const HttpExchangePtr& exchange) {
  auto told = std::make_shared<std::atomic<bool>>(false);
  exchange->set_on_gone([told] { *told = true; });
  for (int k = 0; k < 1000 && !*told; ++k) std::this_thread::sleep_for(10ms);
  return *told && exchange->gone();
}

TEST_F(HttpServerTest, AnswersOneRequestAfterTheOtherOnAConnection) {
  begin();
  HttpClient client(port());
  const std::string body(100000, 'x');
  client.send(HttpClient::request_text("POST", "/echo", body));
  EXPECT_EQ(client.read().body, "POST" + body);
  // Two at once, the second in pieces; the body of one in chunks.
  client.send(HttpClient::request_text("GET", "/echo", "") + "POST /ec");
  EXPECT_EQ(client.read().body, "GET");
  client.send("ho HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n");
  const HttpAnswer answer = client.read();
  EXPECT_EQ(answer.body, "POSTabc");
  EXPECT_EQ(answer.status, 200);
  EXPECT_EQ(answer.headers.at("content-type"), "text/plain");
  EXPECT_TRUE(answer.headers.at("x-request-id").starts_with("req_"));
  client.send("HEAD /echo HTTP/1.1\r\nHost: x\r\nX-Request-Id: mine-1\r\n\r\n");
  const HttpAnswer head = client.read(false);
  EXPECT_EQ(head.headers.at("content-length"), "4");
  EXPECT_EQ(head.headers.at("x-request-id"), "mine-1");
  client.send("GET /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  EXPECT_EQ(client.read().headers.at("connection"), "close");
  EXPECT_TRUE(client.ended());
}

TEST_F(HttpServerTest, SaysContinueToAClientThatWaitsForIt) {
  begin();
  HttpClient client(port());
  client.send("POST /echo HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n");
  EXPECT_EQ(client.read(false).status, 100);
  client.send("abc");
  EXPECT_EQ(client.read().body, "POSTabc");
}

TEST_F(HttpServerTest, StreamsInPiecesAndKeepsAlive) {
  begin();
  HttpClient client(port());
  client.send(HttpClient::request_text("GET", "/wait", ""));
  const HttpExchangePtr exchange = next();
  exchange->start_stream({.content_type = "text/event-stream", .body = "one "});
  exchange->keep_alive(0.02, "alive ");
  ASSERT_TRUE(client.read_until("alive "));
  exchange->write("two");
  exchange->finish();
  const HttpAnswer answer = client.read();
  EXPECT_TRUE(answer.complete);
  EXPECT_EQ(answer.headers.at("transfer-encoding"), "chunked");
  EXPECT_TRUE(answer.body.starts_with("one alive ") && answer.body.ends_with("two")) << answer.body;
  EXPECT_EQ(client.get("/echo").body, "GET");  // the same connection
  exchange->write("late");                     // has no effect
  EXPECT_EQ(client.get("/echo").body, "GET");
}

TEST_F(HttpServerTest, AStreamInHttp10EndsWithItsConnection) {
  begin();
  HttpClient client(port());
  client.send("GET /wait HTTP/1.0\r\n\r\n");
  const HttpExchangePtr exchange = next();
  exchange->start_stream({.body = "all"});
  exchange->finish();
  EXPECT_TRUE(client.read_until("\r\n\r\nall"));
  EXPECT_TRUE(client.ended());
}

TEST_F(HttpServerTest, ARequestLearnsThatItsClientHasGone) {
  begin();
  HttpClient waiting(port()), streaming(port());
  waiting.send(HttpClient::request_text("GET", "/wait", ""));
  const HttpExchangePtr first = next();
  EXPECT_FALSE(first->gone());
  waiting.leave();  // before any answer
  EXPECT_TRUE(learns_of_it(first));
  EXPECT_TRUE(was_recorded("/wait 499 gone"));
  streaming.send(HttpClient::request_text("GET", "/stream", ""));
  const HttpExchangePtr second = next();
  second->start_stream({.body = "x"});
  ASSERT_TRUE(streaming.read_until("x"));
  streaming.leave();  // in the middle of it
  EXPECT_TRUE(learns_of_it(second));
  EXPECT_TRUE(was_recorded("/stream 200 gone"));
  first->respond({});  // has no effect
  second->write("y");
  EXPECT_EQ(HttpClient(port()).get("/echo").body, "GET");
}

TEST_F(HttpServerTest, AClientThatDoesNotReadItsStreamIsDisconnected) {
  begin({.pending_bytes = 100000});
  HttpClient client(port(), 4096);
  client.send(HttpClient::request_text("GET", "/wait", ""));
  const HttpExchangePtr exchange = next();
  exchange->start_stream({});
  for (int k = 0; k < 200 && !exchange->gone(); ++k) exchange->write(std::string(100000, 'x'));
  EXPECT_TRUE(learns_of_it(exchange));
}

TEST_F(HttpServerTest, AnAnswerThatIsTooLateOrMissing) {
  begin();
  HttpClient client(port());
  const HttpAnswer lost = client.get("/forget");
  EXPECT_EQ(lost.status, 500);
  client.send(HttpClient::request_text("GET", "/wait", ""));
  HttpExchangePtr exchange = next();
  exchange->start_stream({.body = "x"});
  exchange.reset();  // a stream that nobody ends is no complete answer
  EXPECT_FALSE(client.read().complete);
  EXPECT_TRUE(client.ended());
}

TEST_F(HttpServerTest, RefusesWhatIsTooLargeTooSlowOrNoRequest) {
  begin({.header_bytes = 1000, .body_bytes = 1000, .request_seconds = 0.3});
  const auto answer_to = [&](const std::string& bytes) {
    HttpClient client(port());
    client.send(bytes);
    const HttpAnswer answer = client.read();
    EXPECT_TRUE(client.ended()) << bytes.substr(0, 50);
    return answer;
  };
  const HttpAnswer large = answer_to("POST /echo HTTP/1.1\r\nContent-Length: 1001\r\n\r\n");
  EXPECT_EQ(large.status, 413);
  EXPECT_EQ(large.body, "error 413: the body of a request may have at most 1000 bytes");
  EXPECT_EQ(
      answer_to("POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n500\r\n" + std::string(1280, 'x'))
          .status,
      413);
  EXPECT_EQ(answer_to("GET /echo HTTP/1.1\r\nX: " + std::string(2000, 'x') + "\r\n\r\n").status, 431);
  EXPECT_EQ(answer_to("nonsense\r\n\r\n").status, 400);
  EXPECT_EQ(answer_to("GET /%zz HTTP/1.1\r\nHost: x\r\n\r\n").status, 400);
  EXPECT_EQ(answer_to("GET /%ff HTTP/1.1\r\nHost: x\r\n\r\n").status, 400);
  EXPECT_EQ(answer_to("POST /echo HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef").status,
            400);
  EXPECT_EQ(answer_to("POST /echo HTTP/1.1\r\nContent-Length: -5\r\n\r\n").status, 400);
  EXPECT_EQ(answer_to("POST /echo HTTP/1.1\r\nContent-Length: 5\r\n\r\nab").status, 408);
  EXPECT_EQ(answer_to("GET /echo HT").status, 408);
  EXPECT_EQ(answer_to("").status, 0);  // silence is no request
  EXPECT_EQ(HttpClient(port()).get("http://proxy/echo").body, "GET");
}

TEST_F(HttpServerTest, BoundsConnectionsAndWhatIsSentAhead) {
  begin({.connections = 2, .ahead_bytes = 10000});
  HttpClient a(port()), b(port());
  a.send(HttpClient::request_text("GET", "/wait", ""));
  const HttpExchangePtr exchange = next();
  EXPECT_EQ(b.get("/echo").status, 200);
  EXPECT_EQ(server_->n_connections(), 2);
  const HttpAnswer third = HttpClient(port()).read();
  EXPECT_EQ(third.status, 503);
  EXPECT_EQ(third.headers.at("retry-after"), "5");
  for (int k = 0; k < 20; ++k) a.send(HttpClient::request_text("GET", "/echo", std::string(1000, 'x')));
  EXPECT_TRUE(learns_of_it(exchange));
}

TEST_F(HttpServerTest, IdleConnectionsCostNothingToOthers) {
  begin({.connections = 300});
  std::vector<std::unique_ptr<HttpClient>> idle;
  for (int k = 0; k < 200; ++k) {
    idle.push_back(std::make_unique<HttpClient>(port()));
    if (k % 2 == 0) {
      EXPECT_EQ(idle.back()->get("/echo").status, 200);
    }
  }
  EXPECT_EQ(HttpClient(port()).get("/echo").body, "GET");
  for (const auto& client : idle) EXPECT_EQ(client->get("/echo").body, "GET");
}

TEST_F(HttpServerTest, EndsInOrder) {
  begin();
  HttpClient client(port()), idle(port());
  EXPECT_EQ(idle.get("/echo").status, 200);
  client.send(HttpClient::request_text("GET", "/wait", ""));
  const HttpExchangePtr exchange = next();
  server_->close_after_answers();
  EXPECT_FALSE(server_->wait_quiet(0.05));
  exchange->respond({.body = std::string(1000000, 'x')});
  const HttpAnswer answer = client.read();
  EXPECT_TRUE(answer.complete);
  EXPECT_EQ(answer.headers.at("connection"), "close");
  EXPECT_TRUE(server_->wait_quiet(10.0));
  EXPECT_EQ(idle.get("/echo").headers.at("connection"), "close");
  server_.reset();
  exchange->write("after the end");
}

TEST_F(HttpServerTest, ItsEndTellsRequestsAndOutlivesThem) {
  begin();
  HttpClient client(port());
  client.send(HttpClient::request_text("GET", "/wait", ""));
  const HttpExchangePtr exchange = next();
  server_.reset();
  EXPECT_TRUE(exchange->gone());
  EXPECT_TRUE(client.ended());
  exchange->respond({});
}

TEST_F(HttpServerTest, AnAddressThatIsTakenIsAnError) {
  begin();
  HttpSettings settings{.port = port(), .handler = [](const HttpExchangePtr&) {}};
  test::expect_error([&] { HttpServer second(settings); }, ErrorCode::kIo,
                     {"127.0.0.1:" + std::to_string(port()), "in use"});
  settings.host = "no such host";
  EXPECT_THROW(HttpServer third(settings), Error);
}

TEST(HttpMessage, Parts) {
  const HttpRequest request{
      .method = "GET", .path = "/", .query = "", .headers = {{"X-A", "1"}, {"x-a", "2"}}};
  EXPECT_EQ(request.header("x-A"), "1");
  EXPECT_FALSE(request.header("x"));
  EXPECT_EQ(decode_path("/a%20b%C3%A9"), "/a b\xC3\xA9");
  for (const char* bad : {"/%", "/%2", "/%0a", "/\x01", "/%80"}) EXPECT_FALSE(decode_path(bad)) << bad;
  EXPECT_FALSE(sane_request_id("a b"));
  EXPECT_FALSE(sane_request_id("a\r\nSet-Cookie"));
  EXPECT_FALSE(sane_request_id(std::string(129, 'a')));
  EXPECT_EQ(sane_request_id("a-1_.B"), "a-1_.B");
  EXPECT_NE(new_request_id(), new_request_id());
  EXPECT_TRUE(equal_in_constant_time("secret", "secret"));
  for (const char* given : {"", "secre", "secrets", "Secret", "secretsecret"})
    EXPECT_FALSE(equal_in_constant_time("secret", given)) << given;
  EXPECT_FALSE(equal_in_constant_time("", "x"));
  EXPECT_EQ(http_date(0), "Thu, 01 Jan 1970 00:00:00 GMT");
}

}  // namespace
}  // namespace sepllm::server
