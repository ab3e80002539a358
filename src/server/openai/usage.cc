#include "server/openai/usage.h"

namespace sepllm::server {
namespace {

double ratio(double a, double b) { return b > 0.0 ? a / b : 0.0; }

}  // namespace

void Usage::add_cache(const KvCache& cache) {
  const KvStats stats = cache.stats();
  kv_bytes += cache.held_bytes();
  kv_full_bytes += stats.full_bytes;
  queries += stats.queries;
  keys += stats.keys;
  full_keys += stats.full_keys;
}

Json usage_json(const Usage& u, const PolicySettings& policy) {
  return {
      {"prompt_tokens", u.prompt_tokens},
      {"completion_tokens", u.new_tokens},
      {"total_tokens", u.prompt_tokens + u.new_tokens},
      {"prompt_tokens_details", {{"cached_tokens", u.cached_tokens}}},
      {"sepllm",
       {{"policy", policy_name(policy.policy.kind)},
        {"kv_bytes", u.kv_bytes},
        {"kv_full_bytes", u.kv_full_bytes},
        {"kv_mean_keys", ratio(static_cast<double>(u.keys), static_cast<double>(u.queries))},
        {"kv_full_share",
         u.full_keys == 0 ? 1.0 : ratio(static_cast<double>(u.keys), static_cast<double>(u.full_keys))}}}};
}

Json timings_json(const Usage& u) {
  constexpr double kMs = 1000.0;
  const auto prompt_n = static_cast<double>(u.prompt_tokens - u.cached_tokens);
  const auto predicted_n = static_cast<double>(u.new_tokens);
  return {{"cache_n", u.cached_tokens},
          {"prompt_n", u.prompt_tokens - u.cached_tokens},
          {"prompt_ms", u.prompt_seconds * kMs},
          {"prompt_per_token_ms", ratio(u.prompt_seconds * kMs, prompt_n)},
          {"prompt_per_second", ratio(prompt_n, u.prompt_seconds)},
          {"predicted_n", u.new_tokens},
          {"predicted_ms", u.decode_seconds * kMs},
          {"predicted_per_token_ms", ratio(u.decode_seconds * kMs, predicted_n)},
          {"predicted_per_second", ratio(predicted_n, u.decode_seconds)}};
}

}  // namespace sepllm::server
