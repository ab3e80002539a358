#include "server/routes/api_server.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <exception>
#include <functional>
#include <memory>
#include <new>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/log.h"
#include "base/utf8.h"
#include "server/openai/api_error.h"
#include "server/routes/router.h"

namespace sepllm::server {
namespace {

// Whether the request has one of the keys: "Authorization: Bearer KEY", or the header that some clients send.
bool has_key(const HttpRequest& request, const std::vector<std::string>& keys) {
  constexpr std::string_view kBearer = "Bearer ";
  std::string_view given = request.header("api-key").value_or("");
  if (given.empty()) given = request.header("x-api-key").value_or("");
  const std::string_view authorization = request.header("authorization").value_or("");
  if (authorization.starts_with(kBearer)) given = authorization.substr(kBearer.size());
  bool found = false;
  for (const std::string& key : keys) found = equal_in_constant_time(key, given) || found;  // all of them
  return found;
}

void check_key(const HttpRequest& request, const Route& route, const Api& api) {
  if (route.open || api.settings.api_keys.empty() || has_key(request, api.settings.api_keys)) return;
  throw ApiError(401, "a valid API key is needed (Authorization: Bearer KEY)", "", "invalid_api_key");
}

// A browser lets any page send requests here, even if the page may not read the answers: those of other pages
// than the server's own, and of other origins than the one that is allowed, are refused.
void check_origin(const HttpRequest& request, const Api& api) {
  const auto origin = request.header("origin");
  const std::string& allowed = api.settings.cors_origin;
  if (!origin || allowed == "*" || *origin == allowed) return;
  const size_t host = origin->find("://");
  if (host != std::string_view::npos && origin->substr(host + 3) == request.header("host").value_or(""))
    return;
  throw ApiError(403, "pages of this origin may not use the server", "", "origin_not_allowed");
}

// What a browser asks before it sends a request of a page of another origin.
HttpResponse options_response(const Api& api, const HttpRequest& request) {
  const std::string allowed = allowed_methods(request.path);
  if (allowed.empty()) throw ApiError(404, "there is nothing here", "", "not_found");
  HttpResponse out{.status = 204, .headers = {{"Allow", allowed}}};
  if (api.settings.cors_origin.empty()) return out;
  out.headers.emplace_back("Access-Control-Allow-Methods", allowed);
  out.headers.emplace_back("Access-Control-Allow-Headers",
                           "authorization, content-type, x-request-id, api-key, "
                           "x-api-key, x-stainless-arch, x-stainless-lang, "
                           "x-stainless-os, x-stainless-package-version, "
                           "x-stainless-retry-count, x-stainless-runtime, "
                           "x-stainless-runtime-version, x-stainless-timeout");
  out.headers.emplace_back("Access-Control-Max-Age", "600");
  return out;
}

// Runs `work`; what it throws becomes the answer.
void answer_failures(const HttpExchangePtr& exchange, const std::function<void()>& work) {
  try {
    work();
  } catch (const ApiError& error) {
    exchange->respond(error_response(error));
  } catch (const Error& error) {
    exchange->respond(error_response(as_api_error(error)));
  } catch (const std::bad_alloc&) {
    ApiError error(503, "the server is out of memory");
    error.retry_after_seconds = 5;
    exchange->respond(error_response(error));
  } catch (const std::exception& error) {
    log_warning(std::string("a request failed: ") + error.what());
    exchange->respond(error_response(ApiError(500, "an error inside the server")));
  }
}

// A path or note in a line of the log.
std::string printable(const std::string& text) {
  constexpr size_t kLongest = 200;
  std::string out = utf8_sanitize(text.substr(0, kLongest));
  std::replace_if(
      out.begin(), out.end(), [](char c) { return static_cast<unsigned char>(c) <= 0x20; }, '?');
  return out;
}

std::string known_method(const std::string& method) {
  for (const char* known : {"GET", "POST", "HEAD", "OPTIONS"}) {
    if (method == known) return method;
  }
  return "other";
}

}  // namespace

ApiServer::ApiServer(const Model& model, const Context& context, ApiSettings settings, HttpSettings http,
                     std::function<void(const AccessRecord&)> log)
    : api_(std::make_unique<Api>(model, context, std::move(settings))) {
  http.handler = [this](const HttpExchangePtr& exchange) { handle(exchange); };
  http.error_body = [](int status, const std::string& message) {
    return json_text(error_json(ApiError(status, message)));
  };
  http.on_done = [api = api_.get(), log = std::move(log)](const HttpRecord& record) {
    const HttpRequest& request = record.request;
    api->metrics.http_request(route_label(request.path), known_method(request.method), record.status);
    if (!log) return;
    log({.method = printable(request.method),
         .path = printable(request.path),
         .status = record.status,
         .bytes = record.body_bytes,
         .seconds = record.seconds,
         .id = request.id,
         .peer = request.peer,
         .note = record.gone ? "client left" : record.note});
  };
  if (!api_->settings.cors_origin.empty()) {
    http.headers = {{"Access-Control-Allow-Origin", api_->settings.cors_origin},
                    {"Access-Control-Expose-Headers", "x-request-id"},
                    {"Vary", "Origin"}};
  }
  http_ = std::make_unique<HttpServer>(std::move(http));
  api_->http = http_.get();
}

ApiServer::~ApiServer() {
  http_.reset();  // no more requests
  api_.reset();
}

void ApiServer::handle(const HttpExchangePtr& exchange) {
  const HttpRequest& request = exchange->request();
  answer_failures(exchange, [&] {
    if (request.method == "OPTIONS") return exchange->respond(options_response(*api_, request));
    const Route& route = find_route(request.method, request.path);
    check_key(request, route, *api_);
    check_origin(request, *api_);
    if (std::string_view(route.method) == "GET") return route.run(*api_, exchange);
    if (request.header("content-encoding").value_or("identity") != "identity")
      throw ApiError(415, "compressed requests are not supported");
    api_->work_for(request.body.size()).post([api = api_.get(), &route, exchange] {
      if (exchange->gone()) return;
      answer_failures(exchange, [&] { route.run(*api, exchange); });
    });
  });
}

void ApiServer::begin_drain() {
  api_->draining = true;
  api_->service.stop_admitting();
  http_->close_after_answers();
}

bool ApiServer::wait_drained(double seconds) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  if (!api_->service.wait_idle(seconds)) return false;
  const std::chrono::duration<double> left = end - std::chrono::steady_clock::now();
  return http_->wait_quiet(std::max(left.count(), 0.0));
}

}  // namespace sepllm::server
