#include "server/openai/request_settings.h"

#include <fmt/format.h>

#include <cmath>
#include <cstdint>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "base/options.h"
#include "server/openai/api_error.h"
#include "server/openai/limits.h"

namespace sepllm::server {
namespace {

// Parameters of other servers that would change the answer, with the value under which they do nothing (in
// addition to null, false, 0 and what is empty).
struct Foreign {
  const char* name;
  double neutral = 0.0;
};
constexpr Foreign kForeign[] = {
    {"grammar"},         {"json_schema"},    {"guided_json"},     {"guided_regex"},  {"guided_choice"},
    {"guided_grammar"},  {"min_tokens"},     {"bad_words"},       {"mirostat"},      {"structured_outputs"},
    {"use_beam_search"}, {"typical_p", 1.0}, {"tfs_z", 1.0},      {"top_a"},         {"dry_multiplier"},
    {"xtc_probability"}, {"audio"},          {"prompt_logprobs"}, {"prompt_embeds"}, {"images"}};

bool has_effect(const Json& value, double neutral) {
  if (value.is_boolean()) return value.get<bool>();
  if (value.is_number()) return value.get<double>() != 0.0 && value.get<double>() != neutral;
  if (value.is_string()) return !value.get_ref<const std::string&>().empty();
  return !value.empty();
}

[[noreturn]] void refuse_unsupported(const std::string& param, const std::string& what) {
  throw ApiError(400, what + " is not supported by this server", param, "unsupported_parameter");
}

void refuse_foreign(const Fields& request) {
  for (const Foreign& foreign : kForeign) {
    const Json* value = request.find(foreign.name);
    if (value != nullptr && has_effect(*value, foreign.neutral))
      refuse_unsupported(foreign.name, fmt::format("'{}'", foreign.name));
  }
  if (const Json* format = request.find("response_format")) {
    const auto type = Fields(*format, "response_format").text("type");
    if (type.value_or("") != "text")
      refuse_unsupported("response_format", "a response_format other than text");
  }
}

std::vector<std::string> read_stops(const Fields& request) {
  const Json* value = request.find("stop");
  if (value == nullptr) return {};
  const auto expected =
      fmt::format("a string, or a list of at most {} strings of at most {} bytes", kMaxStops, kMaxStopBytes);
  std::vector<std::string> stops;
  const auto add = [&](const Json& one) {
    if (!one.is_string()) request.refuse("stop", expected);
    const auto& text = one.get_ref<const std::string&>();
    if (text.size() > kMaxStopBytes) request.refuse("stop", expected);
    if (!text.empty()) stops.push_back(text);  // some clients send empty ones, which can stop nothing
  };
  if (!value->is_array()) {
    add(*value);
    return stops;
  }
  if (value->size() > kMaxStops) request.refuse("stop", expected);
  for (const Json& one : *value) add(one);
  return stops;
}

std::vector<std::pair<int32_t, double>> read_biases(const Fields& request, int64_t vocab_size) {
  constexpr double kMost = 100.0;
  const Json* value = request.find("logit_bias");
  if (value == nullptr) return {};
  const std::string expected = fmt::format(
      "an object of at most {} token ids (as strings, from 0 to {}) with "
      "biases from {} to {}",
      kMaxBiases, vocab_size - 1, -kMost, kMost);
  if (!value->is_object() || value->size() > kMaxBiases) request.refuse("logit_bias", expected);
  std::vector<std::pair<int32_t, double>> biases;
  for (const auto& [key, bias] : value->items()) {
    const std::optional<int64_t> id = parse_integer(key);
    const double b = bias.is_number() ? bias.get<double>() : std::nan("");
    if (!id || *id < 0 || *id >= vocab_size || !(std::abs(b) <= kMost))
      request.refuse("logit_bias", expected);
    biases.emplace_back(static_cast<int32_t>(*id), b);
  }
  return biases;
}

// Without a seed (or with -1, as some clients write it), every request draws anew.
int64_t read_seed(const Fields& request) {
  constexpr uint64_t kBits = (uint64_t{1} << 62) - 1;  // room for the choices, which count on from it
  const auto seed = request.integer("seed", INT64_MIN, INT64_MAX);
  if (seed && *seed != -1) return static_cast<int64_t>(static_cast<uint64_t>(*seed) & kBits);
  std::random_device device;
  return static_cast<int64_t>(((uint64_t{device()} << 32) | device()) & kBits);
}

SamplingSettings read_sampling(const Fields& request, SamplingSettings s, int64_t vocab_size) {
  const auto number = [&](const char* name, double min, double max, double* target) {
    if (const auto value = request.number(name, min, max)) *target = *value;
  };
  number("temperature", 0.0, kMaxTemperature, &s.temperature);
  number("top_p", 0.0, 1.0, &s.top_p);
  number("min_p", 0.0, 1.0, &s.min_p);
  number("presence_penalty", -2.0, 2.0, &s.presence_penalty);
  number("frequency_penalty", -2.0, 2.0, &s.frequency_penalty);
  // -1 is how vLLM says "all".
  if (const auto k = request.integer("top_k", -1, INT32_MAX)) s.top_k = *k < 0 ? 0 : *k;
  // llama.cpp's name, whose penalty looks at the last tokens, and vLLM's, which looks at all.
  for (const auto& [name, last_n] :
       {std::pair{"repeat_penalty", int64_t{64}}, {"repetition_penalty", SamplingSettings::kWholeContext}}) {
    const auto penalty = request.number(name, SamplingSettings::kMinPenalty, SamplingSettings::kMaxPenalty);
    if (!penalty) continue;
    s.repeat_penalty = *penalty;
    s.repeat_last_n = last_n;
  }
  if (const auto n = request.integer("repeat_last_n", SamplingSettings::kWholeContext, INT32_MAX))
    s.repeat_last_n = *n;
  s.logit_bias = read_biases(request, vocab_size);
  s.seed = read_seed(request);
  return s;
}

}  // namespace

RequestSettings read_settings(const Fields& request, const ServedModels& models,
                              const SamplingSettings& defaults, int64_t vocab_size) {
  refuse_foreign(request);
  RequestSettings out;
  out.model = &models.find(request.text("model").value_or(""));
  out.policy = models.policy(*out.model, request.find("sepllm"));
  out.sampling = read_sampling(request, defaults, vocab_size);
  out.n = request.integer("n", 1, kMaxChoices).value_or(1);
  const auto best_of = request.integer("best_of", 1, kMaxChoices);
  if (best_of && *best_of != out.n) refuse_unsupported("best_of", "'best_of' other than n");
  out.stops = read_stops(request);
  out.max_tokens = request.integer("max_tokens", 0, kMaxNewTokens);
  // The newer name counts where both are given.
  if (const auto newer = request.integer("max_completion_tokens", 0, kMaxNewTokens)) out.max_tokens = newer;
  out.stream = request.boolean("stream").value_or(false);
  if (const Json* value = request.find("stream_options")) {
    const Fields options(*value, "stream_options");
    out.include_usage = options.boolean("include_usage").value_or(false);
    out.include_cache = options.boolean("include_cache").value_or(false);
  }
  out.ignore_eos = request.boolean("ignore_eos").value_or(false);
  out.skip_special = request.boolean("skip_special_tokens").value_or(true);
  out.reuse_prefix = request.boolean("cache_prompt").value_or(true);
  return out;
}

}  // namespace sepllm::server
