#include "server/http/http_server.h"

#include <fmt/format.h>

#include <atomic>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/string.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/string_body.hpp>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <ctime>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

#include "base/check.h"
#include "base/error.h"
#include "base/log.h"
#include "server/http/answer_text.h"
#include "server/http/exchange.h"
#include "server/http/out_queue.h"

namespace sepllm::server {
namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using boost::system::error_code;
using tcp = asio::ip::tcp;
using Clock = std::chrono::steady_clock;

Clock::duration duration_of(double seconds) {
  return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
}

double seconds_from(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

}  // namespace

class Connection;  // not in the unnamed namespace, because HttpServer::Impl has a member of this type

// What the server's thread and the connections share.
class HttpServer::Impl {
 public:
  explicit Impl(HttpSettings s) : settings(std::move(s)), acceptor(io), pause(io) {}

  // Runs `fn` in the server's thread; does nothing after the server's end.
  template <typename Fn>
  void post(Fn fn) {
    const std::lock_guard lock(mutex);
    if (!stopped) asio::post(io, std::move(fn));
  }

  void request_begins() { ++n_in_work; }
  void request_ends() {
    --n_in_work;
    const std::lock_guard lock(mutex);
    quiet.notify_all();
  }

  HttpSettings settings;
  asio::io_context io;
  tcp::acceptor acceptor;
  asio::steady_timer pause;  // after a connection could not be accepted
  std::thread thread;
  std::set<Connection*> connections;  // of the server's thread
  std::atomic<int64_t> n_connections{0}, n_in_work{0};
  std::atomic<bool> closing{false};  // every answer ends its connection
  std::mutex mutex;
  std::condition_variable quiet;
  bool stopped = false;
};

namespace {

using ImplPtr = std::shared_ptr<HttpServer::Impl>;

// The whole text of an error that ends a connection.
std::string closing_answer(const HttpSettings& settings, HttpResponse response, const std::string& message) {
  if (settings.error_body) response.body = settings.error_body(response.status, message);
  const std::string id = new_request_id();
  const AnswerHead head{
      .length = std::ssize(response.body), .keep_alive = false, .id = id, .time = std::time(nullptr)};
  return head_text(response, settings.headers, head) + response.body;
}

}  // namespace

// One client. All functions run in the server's thread.
class Connection : public AnswerTarget, public std::enable_shared_from_this<Connection> {
 public:
  Connection(ImplPtr server, tcp::socket socket);
  ~Connection() override { --server_->n_connections; }

  void start();
  void drop();  // ends it at once

  void post(std::function<void()> call) override { server_->post(std::move(call)); }
  void respond(const ExchangeStatePtr& exchange, const HttpResponse& response) override;
  void start_stream(const ExchangeStatePtr& exchange, const HttpResponse& head) override;
  void write(const ExchangeStatePtr& exchange, std::string_view data) override;
  void finish(const ExchangeStatePtr& exchange) override;
  void abort(const ExchangeStatePtr& exchange) override;
  void keep_alive(const ExchangeStatePtr& exchange, double seconds, const std::string& data) override;
  void abandon(const ExchangeStatePtr& exchange) override;

 private:
  enum class Phase { kIdle, kReading, kWorking, kLingering, kClosed };

  void await_bytes();
  void on_bytes(error_code error, size_t n);
  void become_idle(double seconds);
  void begin_request();
  void on_header(error_code error);
  void on_request(error_code error);
  void take_request(http::request<http::string_body> message);
  void refuse(error_code error);
  void refuse(int status, const std::string& message);
  void send(std::string data);
  void write_some();
  void on_written(error_code error, size_t n);
  void answer_done();
  void linger();
  void record(bool gone);
  void set_deadline(double seconds);
  void clear_deadline() { deadline_ = Clock::time_point::max(); }
  void arm();
  void on_time();
  void arm_keep_alive();
  bool is_current(const ExchangeStatePtr& exchange) const {
    return exchange == exchange_ && phase_ == Phase::kWorking && !complete_;
  }

  ImplPtr server_;  // declared first: the socket belongs to its io_context
  tcp::socket socket_;
  boost::beast::flat_buffer buffer_;
  std::optional<http::request_parser<http::string_body>> parser_;
  Phase phase_ = Phase::kIdle;
  bool reading_ = false;  // a read is on its way
  bool timed_out_ = false;
  std::string peer_;

  ExchangeStatePtr exchange_;
  BodyFraming framing_ = BodyFraming::kLength;
  bool head_sent_ = false, complete_ = false;
  bool keep_ = true;  // the connection, after this answer
  int status_ = 0;
  int64_t body_sent_ = 0;

  OutQueue out_;
  bool writing_ = false;

  asio::steady_timer timer_;
  Clock::time_point deadline_ = Clock::time_point::max(), armed_ = Clock::time_point::max();
  asio::steady_timer alive_timer_;
  double alive_seconds_ = 0.0;
  std::string alive_data_;
  Clock::time_point last_write_{};
  int64_t lingering_bytes_ = 0;
};

Connection::Connection(ImplPtr server, tcp::socket socket)
    : server_(std::move(server)), socket_(std::move(socket)), timer_(server_->io), alive_timer_(server_->io) {
  ++server_->n_connections;
  error_code ignored;
  (void)socket_.set_option(tcp::no_delay(true), ignored);
  const auto end = socket_.remote_endpoint(ignored);
  if (!ignored) peer_ = fmt::format("{}:{}", end.address().to_string(), end.port());
}

void Connection::start() {
  server_->connections.insert(this);
  become_idle(server_->settings.limits.request_seconds);
}

void Connection::become_idle(double seconds) {
  phase_ = Phase::kIdle;
  set_deadline(seconds);
  if (buffer_.size() == 0) {
    await_bytes();
  } else if (reading_) {
    socket_.cancel();  // the next request is here already: on_bytes() begins it
  } else {
    begin_request();
  }
}

// One read, in which the bytes of the next request arrive, or the news that the client has gone.
void Connection::await_bytes() {
  constexpr size_t kPiece = 4096;
  if (reading_) return;
  reading_ = true;
  socket_.async_read_some(buffer_.prepare(kPiece), [self = shared_from_this()](error_code error, size_t n) {
    self->reading_ = false;
    self->on_bytes(error, n);
  });
}

void Connection::on_bytes(error_code error, size_t n) {
  if (phase_ == Phase::kClosed) return;
  if (phase_ == Phase::kLingering) {
    constexpr int64_t kMost = 16 << 20;
    lingering_bytes_ += static_cast<int64_t>(n);
    if (error || lingering_bytes_ > kMost) return drop();
    return await_bytes();  // what comes is not kept
  }
  buffer_.commit(n);
  if (error == asio::error::eof && phase_ == Phase::kWorking && complete_) {
    keep_ = false;  // it will send nothing more, but may still read its answer
    return;
  }
  const bool cancelled = error == asio::error::operation_aborted && buffer_.size() > 0;
  if (error && !cancelled) return drop();
  if (phase_ == Phase::kIdle) return begin_request();
  if (static_cast<int64_t>(buffer_.size()) > server_->settings.limits.ahead_bytes) return drop();
  await_bytes();
}

void Connection::begin_request() {
  const HttpLimits& limits = server_->settings.limits;
  phase_ = Phase::kReading;
  set_deadline(limits.request_seconds);
  auto& parser = parser_.emplace();
  parser.header_limit(static_cast<uint32_t>(limits.header_bytes));
  parser.body_limit(static_cast<uint64_t>(limits.body_bytes));
  http::async_read_header(socket_, buffer_, parser,
                          [self = shared_from_this()](error_code error, size_t) { self->on_header(error); });
}

void Connection::on_header(error_code error) {
  if (phase_ != Phase::kReading || !parser_) return;
  if (error) return refuse(error);
  const auto& message = parser_->get();
  if (boost::beast::iequals(message[http::field::expect], "100-continue") && !parser_->is_done())
    send("HTTP/1.1 100 Continue\r\n\r\n");
  http::async_read(socket_, buffer_, *parser_,
                   [self = shared_from_this()](error_code e, size_t) { self->on_request(e); });
}

void Connection::on_request(error_code error) {
  if (phase_ != Phase::kReading) return;
  if (error) return refuse(error);
  if (parser_) take_request(parser_->release());
}

void Connection::take_request(http::request<http::string_body> message) {
  parser_.reset();
  auto state = std::make_shared<ExchangeState>();
  const std::string_view target(message.target().data(), message.target().size());
  const size_t question = target.find('?');
  const auto path = decode_path(without_authority(target.substr(0, question)));
  state->is_head = message.method() == http::verb::head;
  state->http_1_0 = message.version() < 11;
  state->keep_alive = message.keep_alive();
  state->received = Clock::now();
  HttpRequest& request = state->request;
  request.method = std::string(message.method_string());
  for (const auto& field : message)
    request.headers.emplace_back(std::string(field.name_string()), std::string(field.value()));
  request.body = std::move(message.body());
  request.peer = peer_;
  if (const auto own = request.header("x-request-id")) request.id = sane_request_id(*own).value_or("");
  if (request.id.empty()) request.id = new_request_id();
  if (!path || !path->starts_with('/')) return refuse(400, "the path of the request cannot be read");
  request.path = *path;
  if (question != std::string_view::npos) request.query = std::string(target.substr(question + 1));

  exchange_ = state;
  phase_ = Phase::kWorking;
  head_sent_ = complete_ = false;
  status_ = 0;
  body_sent_ = 0;
  clear_deadline();
  server_->request_begins();
  server_->settings.handler(make_exchange(shared_from_this(), state));
  await_bytes();
}

// Answers what is no request, and ends the connection.
void Connection::refuse(error_code error) {
  if (timed_out_) return refuse(408, "the request did not arrive in time");
  if (error == http::error::header_limit || error == http::error::buffer_overflow)
    return refuse(431, "the header of the request is too large");
  if (error == http::error::body_limit) {
    return refuse(413, fmt::format("the body of a request may have at most {} bytes",
                                   server_->settings.limits.body_bytes));
  }
  const bool is_syntax = error.category() == http::make_error_code(http::error::bad_method).category();
  if (is_syntax && error != http::error::end_of_stream && error != http::error::partial_message)
    return refuse(400, "this is no HTTP request: " + error.message());
  drop();
}

void Connection::refuse(int status, const std::string& message) {
  phase_ = Phase::kWorking;
  complete_ = true;
  keep_ = false;
  send(closing_answer(server_->settings, {.status = status}, message));
}

void Connection::respond(const ExchangeStatePtr& exchange, const HttpResponse& response) {
  if (!is_current(exchange)) return;
  if (head_sent_) return abort(exchange);  // a stream has begun: its end would look like success
  keep_ = exchange->keep_alive && !server_->closing;
  status_ = response.status;
  std::string text = head_text(response, server_->settings.headers,
                               {.length = std::ssize(response.body),
                                .keep_alive = keep_,
                                .http_1_0 = exchange->http_1_0,
                                .id = exchange->request.id,
                                .time = std::time(nullptr)});
  const bool has_body = !exchange->is_head && response.status != 204;
  head_sent_ = complete_ = true;
  if (has_body) body_sent_ = std::ssize(response.body);
  if (has_body) text += response.body;
  send(std::move(text));
}

void Connection::start_stream(const ExchangeStatePtr& exchange, const HttpResponse& head) {
  if (!is_current(exchange) || head_sent_) return;
  framing_ = exchange->http_1_0 ? BodyFraming::kClose : BodyFraming::kChunked;
  keep_ = exchange->keep_alive && !server_->closing && framing_ == BodyFraming::kChunked;
  status_ = head.status;
  head_sent_ = true;
  send(head_text(head, server_->settings.headers,
                 {.framing = framing_,
                  .keep_alive = keep_,
                  .http_1_0 = exchange->http_1_0,
                  .id = exchange->request.id,
                  .time = std::time(nullptr)}));
  write(exchange, head.body);
}

void Connection::write(const ExchangeStatePtr& exchange, std::string_view data) {
  if (!is_current(exchange) || !head_sent_ || data.empty()) return;
  body_sent_ += std::ssize(data);
  send(framing_ == BodyFraming::kChunked ? chunk_text(data) : std::string(data));
  if (phase_ == Phase::kWorking && out_.bytes() > server_->settings.limits.pending_bytes) drop();
}

void Connection::finish(const ExchangeStatePtr& exchange) {
  if (!is_current(exchange) || !head_sent_) return;
  complete_ = true;
  if (framing_ == BodyFraming::kChunked) return send(std::string(kLastChunk));
  if (!writing_) answer_done();
}

void Connection::abort(const ExchangeStatePtr& exchange) {
  if (is_current(exchange)) drop();
}

void Connection::abandon(const ExchangeStatePtr& exchange) {
  if (!is_current(exchange)) return;
  if (head_sent_) return drop();
  HttpResponse response{.status = 500};
  if (server_->settings.error_body) response.body = server_->settings.error_body(500, "the request was lost");
  respond(exchange, response);
}

void Connection::send(std::string data) {
  last_write_ = Clock::now();
  out_.push(std::move(data));
  if (!writing_) write_some();
}

void Connection::write_some() {
  writing_ = true;
  if (phase_ == Phase::kWorking) set_deadline(server_->settings.limits.write_seconds);
  const std::string_view front = out_.front();
  socket_.async_write_some(asio::buffer(front.data(), front.size()),
                           [self = shared_from_this()](error_code error, size_t n) {
                             self->writing_ = false;
                             self->on_written(error, n);
                           });
}

void Connection::on_written(error_code error, size_t n) {
  if (phase_ == Phase::kClosed) return;
  if (error) return drop();
  out_.take(n);
  if (!out_.empty()) return write_some();
  if (phase_ != Phase::kWorking) return;
  clear_deadline();
  if (complete_) answer_done();
}

void Connection::answer_done() {
  record(false);
  alive_timer_.cancel();
  if (!keep_) return linger();
  become_idle(server_->settings.limits.idle_seconds);
}

// The exchange is over.
void Connection::record(bool gone) {
  if (!exchange_) return;
  const ExchangeStatePtr exchange = std::exchange(exchange_, nullptr);
  if (gone) exchange->gone = true;
  const std::function<void()> on_gone = exchange->take_on_gone();
  if (gone && on_gone) on_gone();
  if (server_->settings.on_done) {
    const std::string note = exchange->take_note();
    server_->settings.on_done({exchange->request, head_sent_ ? status_ : 499, body_sent_,
                               seconds_from(exchange->received), gone, note});
  }
  server_->request_ends();
}

// Closes in such a way that a client which is still sending can read its answer.
void Connection::linger() {
  constexpr double kSeconds = 2.0;
  phase_ = Phase::kLingering;
  buffer_.clear();
  error_code ignored;
  (void)socket_.shutdown(tcp::socket::shutdown_send, ignored);
  set_deadline(kSeconds);
  await_bytes();
}

void Connection::drop() {
  if (phase_ == Phase::kClosed) return;
  const auto self = shared_from_this();
  phase_ = Phase::kClosed;
  server_->connections.erase(this);
  error_code ignored;
  timer_.cancel();
  alive_timer_.cancel();
  (void)socket_.close(ignored);
  record(true);
}

void Connection::set_deadline(double seconds) {
  deadline_ = Clock::now() + duration_of(seconds);
  if (deadline_ < armed_) arm();
}

// The timer is moved only where it must ring earlier: a stream sets its deadline with each piece.
void Connection::arm() {
  armed_ = deadline_;
  timer_.expires_at(armed_);
  timer_.async_wait([self = shared_from_this()](error_code error) {
    if (!error) self->on_time();
  });
}

void Connection::on_time() {
  if (phase_ == Phase::kClosed) return;
  armed_ = Clock::time_point::max();
  if (deadline_ == Clock::time_point::max()) return;
  if (Clock::now() < deadline_) return arm();
  if (phase_ != Phase::kReading) return drop();
  timed_out_ = true;
  socket_.cancel();  // the read that is on its way answers
}

void Connection::keep_alive(const ExchangeStatePtr& exchange, double seconds, const std::string& data) {
  if (!is_current(exchange)) return;
  alive_seconds_ = seconds;
  alive_data_ = data;
  last_write_ = Clock::now();
  arm_keep_alive();
}

void Connection::arm_keep_alive() {
  alive_timer_.expires_at(last_write_ + duration_of(alive_seconds_));
  alive_timer_.async_wait([self = shared_from_this(), exchange = exchange_](error_code error) {
    if (error || !self->is_current(exchange)) return;
    if (Clock::now() >= self->last_write_ + duration_of(self->alive_seconds_))
      self->write(exchange, self->alive_data_);
    if (self->is_current(exchange)) self->arm_keep_alive();
  });
}

// --- Accepting ---

namespace {

void refuse_connection(const ImplPtr& server, tcp::socket socket) {
  const std::string text =
      closing_answer(server->settings, {.status = 503, .headers = {{"Retry-After", "5"}}},
                     "the server has as many connections as it takes");
  error_code ignored;
  (void)socket.non_blocking(true, ignored);
  (void)socket.write_some(asio::buffer(text), ignored);  // a new connection takes this much at once
  (void)socket.shutdown(tcp::socket::shutdown_send, ignored);
}

void accept_next(const ImplPtr& server) {
  server->acceptor.async_accept([server](error_code error, tcp::socket socket) {
    if (!server->acceptor.is_open()) return;
    if (error) {
      // No file descriptors, or a client that has left: others are taken a little later.
      server->pause.expires_after(std::chrono::milliseconds(100));
      server->pause.async_wait([server](error_code stopped) {
        if (!stopped) accept_next(server);
      });
      return;
    }
    if (server->n_connections >= server->settings.limits.connections) {
      refuse_connection(server, std::move(socket));
    } else {
      std::make_shared<Connection>(server, std::move(socket))->start();
    }
    accept_next(server);
  });
}

void listen(HttpServer::Impl& server) {
  const HttpSettings& s = server.settings;
  const auto failed = [&](const error_code& error) {
    return Error(ErrorCode::kIo, fmt::format("cannot listen on {}:{}: {}", s.host, s.port, error.message()));
  };
  error_code error;
  tcp::resolver resolver(server.io);
  const auto found = resolver.resolve(s.host, std::to_string(s.port),
                                      tcp::resolver::passive | tcp::resolver::numeric_service, error);
  if (error || found.empty()) throw failed(error);
  const tcp::endpoint end = found.begin()->endpoint();
  (void)server.acceptor.open(end.protocol(), error);
  if (!error) (void)server.acceptor.set_option(tcp::acceptor::reuse_address(true), error);
  if (!error) (void)server.acceptor.bind(end, error);
  if (!error) (void)server.acceptor.listen(tcp::acceptor::max_listen_connections, error);
  if (error) throw failed(error);
}

}  // namespace

HttpServer::HttpServer(HttpSettings settings) : impl_(std::make_shared<Impl>(std::move(settings))) {
  SEPLLM_CHECK(impl_->settings.handler != nullptr);
  listen(*impl_);
  accept_next(impl_);
  impl_->thread = std::thread([impl = impl_.get()] {
    while (true) {
      try {
        impl->io.run();
        return;
      } catch (const std::exception& e) {
        // A handler of one connection has failed (no memory): the others continue.
        log_warning(std::string("a connection failed: ") + e.what());
      }
    }
  });
}

// NOLINTNEXTLINE(bugprone-exception-escape): only without any memory
HttpServer::~HttpServer() {
  impl_->post([impl = impl_] {
    error_code ignored;
    (void)impl->acceptor.close(ignored);
    impl->pause.cancel();
    const std::set<Connection*> open = impl->connections;
    for (Connection* connection : open) connection->drop();
  });
  impl_->thread.join();  // ends when nothing is left to wait for
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->stopped = true;
  }
  impl_->io.restart();
  impl_->io.poll();  // what was posted in the meantime
}

int64_t HttpServer::port() const {
  error_code ignored;
  return impl_->acceptor.local_endpoint(ignored).port();
}

void HttpServer::close_after_answers() { impl_->closing = true; }

bool HttpServer::wait_quiet(double seconds) {
  std::unique_lock lock(impl_->mutex);
  return impl_->quiet.wait_for(lock, std::chrono::duration<double>(seconds),
                               [&] { return impl_->n_in_work == 0; });
}

int64_t HttpServer::n_connections() const { return impl_->n_connections; }

}  // namespace sepllm::server
