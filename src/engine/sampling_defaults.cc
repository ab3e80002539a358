#include "engine/sampling_defaults.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"

namespace sepllm {
namespace {

constexpr uint64_t kMaxFileBytes = uint64_t{16} << 20;

// A number with the range that the option of this name has, too.
double number_within(const JsonObject& file, const char* key, double fallback, double min, double max) {
  const double value = file.number_or(key, fallback);
  if (value >= min && value <= max) return value;
  throw Error(ErrorCode::kBadFile, "wrong value",
              {.file = file.file(),
               .place = key,
               .expected = fmt::format("a number from {} to {}", min, max),
               .got = json_text(file.at(key))});
}

bool states_any(const JsonObject& file, const std::vector<const char*>& keys) {
  return std::any_of(keys.begin(), keys.end(), [&](const char* key) { return file.has(key); });
}

// Settings of transformers that choose tokens in other ways, with the values under which they do nothing
// (in addition to null, false, 0 and empty lists).
struct Foreign {
  const char* key;
  double neutral = 0.0;
};
constexpr std::array kForeign = {Foreign{"typical_p", 1.0},       Foreign{"top_h"},
                                 Foreign{"epsilon_cutoff"},       Foreign{"eta_cutoff"},
                                 Foreign{"num_beams", 1.0},       Foreign{"num_beam_groups", 1.0},
                                 Foreign{"penalty_alpha"},        Foreign{"dola_layers"},
                                 Foreign{"guidance_scale", 1.0},  Foreign{"encoder_repetition_penalty", 1.0},
                                 Foreign{"no_repeat_ngram_size"}, Foreign{"bad_words_ids"},
                                 Foreign{"sequence_bias"},        Foreign{"min_length"},
                                 Foreign{"min_new_tokens"},       Foreign{"exponential_decay_length_penalty"},
                                 Foreign{"suppress_tokens"},      Foreign{"begin_suppress_tokens"},
                                 Foreign{"forced_bos_token_id"},  Foreign{"forced_eos_token_id"},
                                 Foreign{"watermarking_config"}};

bool has_effect(const Json& value, double neutral) {
  if (value.is_boolean()) return value.get<bool>();
  if (value.is_number()) return value.get<double>() != 0.0 && value.get<double>() != neutral;
  return !value.empty();  // null counts as empty
}

void warn_of_foreign(const JsonObject& file) {
  std::vector<std::string> keys;
  for (const Foreign& foreign : kForeign) {
    if (file.has(foreign.key) && has_effect(file.at(foreign.key), foreign.neutral))
      keys.emplace_back(foreign.key);
  }
  if (keys.empty()) return;
  log_warning(fmt::format("{}: settings that this program does not have are ignored: {}", file.file(),
                          fmt::join(keys, ", ")));
}

}  // namespace

SamplingSettings chat_sampling() { return {.temperature = 0.8, .top_k = 40, .top_p = 0.95, .min_p = 0.05}; }

SamplingDefaults sampling_defaults(const std::string& folder, const SamplingSettings& fallback) {
  SamplingDefaults out{.settings = fallback};
  const std::string path = folder + "/generation_config.json";
  if (folder.empty() || !file_exists(path)) return out;
  const Json json = read_json(path, kMaxFileBytes);
  const JsonObject file(json, path);
  SamplingSettings& s = out.settings;
  const bool samples = file.boolean_or("do_sample", true);
  if (states_any(file, {"do_sample", "temperature", "top_k", "top_p", "min_p"})) {
    out.file = path;
    s.temperature = number_within(file, "temperature", 1.0, 0.0, SamplingSettings::kMaxTemperature);
    s.top_k = file.integer_or("top_k", 50, 0, INT32_MAX);
    s.top_p = number_within(file, "top_p", 1.0, 0.0, 1.0);
    s.min_p = number_within(file, "min_p", 0.0, 0.0, 1.0);
    if (!samples) s.temperature = 0.0;
  }
  if (file.has("repetition_penalty")) {
    out.file = path;
    s.repeat_penalty = number_within(file, "repetition_penalty", 1.0, SamplingSettings::kMinPenalty,
                                     SamplingSettings::kMaxPenalty);
    s.repeat_last_n = SamplingSettings::kWholeContext;
  }
  warn_of_foreign(file);
  return out;
}

std::string sampling_text(const SamplingSettings& s) {
  std::string out =
      s.temperature == 0.0 ? "always the most likely token" : fmt::format("temperature {}", s.temperature);
  if (s.temperature != 0.0) {
    if (s.top_k > 0) out += fmt::format(", top-k {}", s.top_k);
    if (s.top_p < 1.0) out += fmt::format(", top-p {}", s.top_p);
    if (s.min_p > 0.0) out += fmt::format(", min-p {}", s.min_p);
  }
  if (s.repeat_penalty != 1.0) {
    out += fmt::format(", repeat penalty {} over {}", s.repeat_penalty,
                       s.repeat_last_n == SamplingSettings::kWholeContext
                           ? "the whole context"
                           : fmt::format("{} tokens", s.repeat_last_n));
  }
  return out;
}

}  // namespace sepllm
