#include "server/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/labels.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <unistd.h>

#include <cstdint>
#include <fstream>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <utility>

namespace sepllm::server {
namespace {

using prometheus::Counter;
using prometheus::Gauge;
using prometheus::Histogram;
using prometheus::Labels;

const Histogram::BucketBoundaries kSeconds = {0.001, 0.0025, 0.005, 0.01,  0.025, 0.05, 0.1,
                                              0.25,  0.5,    1.0,   2.5,   5.0,   10.0, 20.0,
                                              40.0,  80.0,   160.0, 640.0, 2560.0};
const Histogram::BucketBoundaries kTokens = {1,   2,    5,    10,   20,    50,    100,   200,
                                             500, 1000, 2000, 5000, 10000, 20000, 50000, 100000};

double cpu_seconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec);
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

// 0 if the system does not tell.
int64_t resident_bytes() {
  std::ifstream statm("/proc/self/statm");
  int64_t all = 0, resident = 0;
  statm >> all >> resident;
  return resident * sysconf(_SC_PAGESIZE);
}

}  // namespace

struct Metrics::Impl {
  explicit Impl(std::string name) : model{{"model_name", std::move(name)}} {}

  // One metric of this name, with the labels of the model.
  Counter& counter(const std::string& name, const std::string& help) {
    return prometheus::BuildCounter().Name(name).Help(help).Register(registry).Add(model);
  }
  Gauge& gauge(const std::string& name, const std::string& help) {
    return prometheus::BuildGauge().Name(name).Help(help).Register(registry).Add(model);
  }
  Histogram& histogram(const std::string& name, const std::string& help,
                       const Histogram::BucketBoundaries& buckets) {
    return prometheus::BuildHistogram().Name(name).Help(help).Register(registry).Add(model, buckets);
  }

  Counter& finished(const std::string& reason) {
    Labels labels = model;
    labels["finished_reason"] = reason;
    return success.Add(labels);
  }

  prometheus::Registry registry;
  Labels model;
  prometheus::Family<Counter>& http =
      prometheus::BuildCounter().Name("http_requests_total").Help("HTTP requests.").Register(registry);
  prometheus::Family<Counter>& success = prometheus::BuildCounter()
                                             .Name("vllm:request_success_total")
                                             .Help("Requests that ended, by reason.")
                                             .Register(registry);
  Histogram& first_token =
      histogram("vllm:time_to_first_token_seconds", "From a request's arrival to its first text.", kSeconds);
  Histogram& next_token =
      histogram("vllm:inter_token_latency_seconds", "Between the pieces of a text.", kSeconds);
  Histogram& seconds =
      histogram("vllm:e2e_request_latency_seconds", "From a request's arrival to its end.", kSeconds);
  Histogram& queue = histogram("vllm:request_queue_time_seconds", "In the queue.", kSeconds);
  Histogram& prefill = histogram("vllm:request_prefill_time_seconds", "Feeding the prompt.", kSeconds);
  Histogram& decode = histogram("vllm:request_decode_time_seconds", "Generating text.", kSeconds);
  Histogram& prompt = histogram("vllm:request_prompt_tokens", "Tokens of a prompt.", kTokens);
  Histogram& generation = histogram("vllm:request_generation_tokens", "Tokens of an answer.", kTokens);

  std::mutex mutex;  // for the values of the service, which are set before they are written
  // Counters of the service by name, with what was counted so far.
  std::unordered_map<std::string, Counter*> counters;
  std::unordered_map<std::string, Gauge*> gauges;

  void count_up_to(const std::string& name, double value, const std::string& help) {
    Counter*& one = counters[name];
    if (one == nullptr) one = &counter(name, help);
    const double more = value - one->Value();
    if (more > 0.0) one->Increment(more);
  }
  void set(const std::string& name, double value, const std::string& help) {
    Gauge*& one = gauges[name];
    if (one == nullptr) one = &gauge(name, help);
    one->Set(value);
  }
  void take(const ServiceState& state, int64_t n_connections);
};

void Metrics::Impl::take(const ServiceState& s, int64_t n_connections) {
  const auto running = static_cast<double>(s.active.size());
  const auto waiting = static_cast<double>(s.n_waiting);
  const auto limit = static_cast<double>(s.kv_limit);
  double held = 0.0;
  for (const ActiveRequest& request : s.active) held += static_cast<double>(request.kv_bytes);
  set("vllm:num_requests_running", running, "Requests that run.");
  set("vllm:num_requests_waiting", waiting, "Requests that wait.");
  set("vllm:kv_cache_usage_perc", limit > 0 ? static_cast<double>(s.kv_reserved) / limit : 0.0,
      "Share of the KV memory that running requests have reserved (1: all).");
  const auto up = [&](const char* name, int64_t value, const char* help) {
    count_up_to(name, static_cast<double>(value), help);
  };
  up("vllm:prefix_cache_queries", s.prefix_queries, "Tokens of prompts that were looked up in kept caches.");
  up("vllm:prefix_cache_hits", s.prefix_hits, "Of these, tokens that were found.");
  up("vllm:prompt_tokens_total", s.prompt_tokens, "Tokens of prompts, found or processed.");
  up("vllm:generation_tokens_total", s.generated_tokens, "Generated tokens.");
  up("sepllm:requests_total", s.requests, "Requests for text that were queued.");
  up("sepllm:requests_rejected_total", s.rejected, "Requests for text that were refused because of load.");
  up("sepllm:prompt_tokens_total", s.prompt_tokens, "Tokens of prompts, found or processed.");
  up("sepllm:cached_tokens_total", s.cached_tokens, "Tokens of prompts that a kept cache had.");
  up("sepllm:generated_tokens_total", s.generated_tokens, "Generated tokens.");
  up("sepllm:prompt_steps_total", s.prompt_steps, "Chunks of prompts.");
  up("sepllm:decode_steps_total", s.decode_steps, "Passes that generate tokens.");
  up("sepllm:decode_rows_total", s.decode_rows, "Tokens that these passes generated.");
  count_up_to("sepllm:busy_seconds_total", s.busy_seconds, "Time in which the engine worked.");
  set("sepllm:requests_running", running, "Requests that run.");
  set("sepllm:requests_waiting", waiting, "Requests that wait.");
  set("sepllm:kv_limit_bytes", limit, "Memory for all KV caches.");
  set("sepllm:kv_reserved_bytes", static_cast<double>(s.kv_reserved),
      "The most that running requests can take.");
  set("sepllm:kv_held_bytes", held, "Keys and values of running requests.");
  set("sepllm:kv_prefixes_bytes", static_cast<double>(s.kv_prefixes),
      "Caches that are kept for later requests.");
  set("sepllm:prefixes", static_cast<double>(s.n_prefixes), "Number of caches that are kept.");
  count_up_to("process_cpu_seconds_total", cpu_seconds(), "Processor time, of all threads.");
  set("process_resident_memory_bytes", static_cast<double>(resident_bytes()), "Memory in use.");
  set("sepllm:connections", static_cast<double>(n_connections), "Open connections.");
}

Metrics::Metrics(const std::string& model_name) : impl_(std::make_unique<Impl>(model_name)) {
  // A counter that appears only with its first count has no rate for that one.
  for (const char* reason : {"stop", "length", "abort", "error"}) impl_->finished(reason);
}
Metrics::~Metrics() = default;

void Metrics::http_request(const std::string& handler, const std::string& method, int status) {
  impl_->http.Add({{"handler", handler}, {"method", method}, {"status", std::to_string(status)}}).Increment();
}

void Metrics::first_token(double seconds) { impl_->first_token.Observe(seconds); }
void Metrics::next_token(double seconds) { impl_->next_token.Observe(seconds); }

void Metrics::request_done(const Usage& usage, double seconds, const std::string& finish_reason) {
  impl_->finished(finish_reason).Increment();
  impl_->seconds.Observe(seconds);
  impl_->queue.Observe(usage.queue_seconds);
  impl_->prefill.Observe(usage.prompt_seconds);
  impl_->decode.Observe(usage.decode_seconds);
  impl_->prompt.Observe(static_cast<double>(usage.prompt_tokens));
  impl_->generation.Observe(static_cast<double>(usage.new_tokens));
}

std::string Metrics::text(const ServiceState& state, int64_t n_connections) {
  const std::lock_guard lock(impl_->mutex);
  impl_->take(state, n_connections);
  return prometheus::TextSerializer().Serialize(impl_->registry.Collect());
}

}  // namespace sepllm::server
