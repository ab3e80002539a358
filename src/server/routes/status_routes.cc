// What the server says about itself.
#include <cstddef>
#include <cstdint>
#include <string>

#include "server/openai/api_error.h"
#include "server/page/page.h"
#include "server/routes/api.h"

namespace sepllm::server {
namespace {

Json model_json(const Api& api, const ServedModel& model) {
  return {{"id", model.name},
          {"object", "model"},
          {"created", static_cast<int64_t>(api.started)},
          {"owned_by", "sepllm"},
          {"max_model_len", api.model.config().max_positions},
          {"sepllm", policy_json(model.policy)}};
}

}  // namespace

HttpResponse list_models(const Api& api, const HttpRequest&) {
  Json list = Json::array();
  for (const ServedModel& model : api.models.all()) list.push_back(model_json(api, model));
  return {.body = json_text({{"object", "list"}, {"data", list}})};
}

HttpResponse show_model(const Api& api, const HttpRequest& request) {
  const std::string prefix = "/models/";
  const size_t at = request.path.find(prefix);
  return {.body = json_text(model_json(api, api.models.find(request.path.substr(at + prefix.size()))))};
}

HttpResponse health(const Api& api, const HttpRequest&) {
  if (api.draining) throw shutting_down();
  return {.body = R"({"status":"ok"})"};
}

HttpResponse show_metrics(Api& api, const HttpRequest&) {
  const HttpServer* http = api.http;
  return {.content_type = "text/plain; version=0.0.4; charset=utf-8",
          .body = api.metrics.text(api.service.state(), http == nullptr ? 0 : http->n_connections())};
}

// llama.cpp's form: a list with an entry for each place, most of whose members are ours.
HttpResponse slots(const Api& api, const HttpRequest&) {
  const ServiceState state = api.service.state();
  Json list = Json::array();
  for (const ActiveRequest& r : state.active) {
    list.push_back({{"id", std::ssize(list)},
                    {"id_task", r.id},
                    {"is_processing", true},
                    {"phase", r.in_prompt ? "prompt" : "decode"},
                    {"n_prompt_tokens", r.prompt_tokens},
                    {"n_prompt_tokens_processed", r.fed - r.cached},
                    {"n_prompt_tokens_cache", r.cached},
                    {"n_choices", r.n_choices},
                    {"n_decoded", r.new_tokens},
                    {"kv_bytes", r.kv_bytes},
                    {"kv_reserved_bytes", r.kv_reserved},
                    {"policy", r.policy},
                    {"seconds", r.seconds}});
  }
  while (std::ssize(list) < api.settings.service.parallel)
    list.push_back({{"id", std::ssize(list)}, {"is_processing", false}});
  return {.body = json_text(list)};
}

HttpResponse show_page(const Api&, const HttpRequest&) {
  return {.content_type = "text/html; charset=utf-8",
          .body = std::string(page_html()),
          .headers = {{"Content-Security-Policy", std::string(page_security_policy())},
                      {"X-Content-Type-Options", "nosniff"},
                      {"Referrer-Policy", "no-referrer"},
                      {"Cache-Control", "no-cache"}}};
}

}  // namespace sepllm::server
