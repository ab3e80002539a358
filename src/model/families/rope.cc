// Rotary frequencies from config.json, as HF modeling_rope_utils.py computes them, but in double.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <iterator>
#include <numbers>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/log.h"
#include "model/families/common.h"

namespace sepllm {
namespace {

constexpr const char* kKnownTypes[] = {"default", "linear", "dynamic", "yarn", "longrope", "llama3"};

double positive(const JsonObject& object, const char* key) {
  const double value = object.number(key);
  if (!(value > 0)) refuse_value(object, key, "a positive number", fmt::format("{}", value));
  return value;
}

// Absent, null and 0 all mean the default.
double positive_or(const JsonObject& object, const char* key, double fallback) {
  return !object.has(key) || object.number(key) == 0 ? fallback : positive(object, key);
}

// The settings of one config.json: each from the first place of its list that has it.
class RopeSettings {
 public:
  RopeSettings(const JsonObject& config, const RopePlaces& places) : config_(config), object_(config) {
    find_object();
    theta_ = setting("rope_theta", places.theta_key, {"rope_theta", "rotary_emb_base"}, places.theta);
    share_ = setting("partial_rotary_factor", places.share_key, {"partial_rotary_factor", "rotary_pct"},
                     places.share);
  }
  // Those of one type of layers: `object` has them all.
  RopeSettings(const JsonObject& config, const JsonObject& object, double theta)
      : config_(config), object_(object), has_object_(true), of_layer_type_(true) {
    theta_ = positive_or(object, "rope_theta", theta);
    share_ = positive_or(object, "partial_rotary_factor", 1);
  }

  std::string type() const {
    if (!has_object_) return "default";
    const char* key = first_key(object_, {"rope_type", "type"});
    std::string type = object_.string_or(key, "default");
    if (std::find(std::begin(kKnownTypes), std::end(kKnownTypes), type) == std::end(kKnownTypes)) {
      throw Error(ErrorCode::kUnsupported, "unknown rope type",
                  {.file = object_.file(),
                   .place = object_.path_of(key),
                   .expected = fmt::format("{}", fmt::join(kKnownTypes, ", ")),
                   .got = type});
    }
    return type;
  }
  double theta() const { return theta_; }
  double share() const { return share_; }
  void ignore_share(const std::string& why) {
    not_read_.push_back(fmt::format("a share of {} of the head ({})", share_, why));
    share_ = 1;
  }
  // The object of the parameters of a type that is not the default.
  const JsonObject& object() const { return object_; }

  // Of the types that are relative to it; the top level counts most, as in HF (but not for types of layers).
  double trained_length(int64_t max_positions) const {
    const char* key = "original_max_position_embeddings";
    if (config_.has(key) && !of_layer_type_) return positive(config_, key);
    return object_.has(key) ? positive(object_, key) : static_cast<double>(max_positions);
  }

  void warn(const RopeConfig& rope) const {
    if (not_read_.empty()) return;
    log_warning(
        fmt::format("{}: these rotary settings are ignored, as in transformers 5: {}; the base {} and {} "
                    "rotated dims of each head are used",
                    config_.file(), fmt::join(not_read_, ", "), rope.theta, rope.dim));
  }

 private:
  // `rope_scaling`, unless it is empty; else `rope_parameters`.
  void find_object() {
    for (const char* key : {"rope_scaling", "rope_parameters"}) {
      if (!config_.has(key)) continue;
      const JsonObject object = config_.object(key);
      if (object.json().empty()) continue;
      for (const auto& [name, value] : object.json().items()) {
        if (!value.is_object()) continue;
        throw Error(ErrorCode::kUnsupported, "this family has no rope parameters for single types of layers",
                    {.file = config_.file(), .place = object.path_of(name.c_str())});
      }
      if (!has_object_) {
        object_ = object;
        has_object_ = true;
      } else if (object.json() != object_.json()) {
        not_read_.emplace_back(key);
      }
    }
  }

  // From the object, else from `top` at the top level; `all_top`: where other versions and families have it.
  double setting(const char* key, const char* top, std::initializer_list<const char*> all_top,
                 double fallback) {
    const double value = has_object_ && object_.has(key) ? positive(object_, key)
                         : config_.has(top)              ? positive(config_, top)
                                                         : fallback;
    for (const char* other : all_top) {
      // (Whatever else stands there is of no account.)
      if (!config_.has(other) || !config_.at(other).is_number()) continue;
      const auto stated = config_.at(other).get<double>();
      if (stated != value) not_read_.push_back(fmt::format("{} {}", other, stated));
    }
    return value;
  }

  const JsonObject& config_;
  JsonObject object_;
  bool has_object_ = false, of_layer_type_ = false;
  double theta_ = 0, share_ = 0;
  std::vector<std::string> not_read_;
};

// --- The types, each on frequencies of the default one ---

void apply_llama3(const RopeSettings& settings, int64_t max_positions, RopeConfig* rope) {
  const JsonObject& object = settings.object();
  const double old_context = settings.trained_length(max_positions);
  const double factor = positive(object, "factor");
  const double low = positive(object, "low_freq_factor"), high = positive(object, "high_freq_factor");
  if (!(high > low)) {
    refuse_value(object, "high_freq_factor", fmt::format("more than low_freq_factor, {}", low),
                 fmt::format("{}", high));
  }
  // Long waves are stretched by `factor`, short ones are kept, those between are blended.
  for (double& f : rope->inv_freq) {
    const double wavelength = 2 * std::numbers::pi / f;
    if (wavelength > old_context / low) {
      f /= factor;
    } else if (wavelength >= old_context / high) {
      const double smooth = (old_context / wavelength - low) / (high - low);
      f = (1 - smooth) * f / factor + smooth * f;
    }
  }
}

double yarn_mscale(double scale, double mscale) {
  return scale <= 1 ? 1 : 0.1 * mscale * std::log(scale) + 1;
}

double yarn_attention_factor(const JsonObject& object, double factor) {
  if (object.has("attention_factor")) return object.number("attention_factor");
  const double mscale = object.number_or("mscale", 0), all_dim = object.number_or("mscale_all_dim", 0);
  if (mscale == 0 || all_dim == 0) return yarn_mscale(factor, 1);
  return yarn_mscale(factor, mscale) / yarn_mscale(factor, all_dim);
}

// YaRN (Peng et al. 2023): frequencies that turn often within the trained length are kept, those that turn
// hardly at all are divided by `factor`, a ramp between them is blended.
void apply_yarn(const RopeSettings& settings, int64_t max_positions, int64_t rotated, RopeConfig* rope) {
  const JsonObject& object = settings.object();
  const double trained = settings.trained_length(max_positions);
  const double factor =
      object.has("factor") ? positive(object, "factor") : static_cast<double>(max_positions) / trained;
  const double fast = positive_or(object, "beta_fast", 32), slow = positive_or(object, "beta_slow", 1);
  const auto dim = static_cast<double>(rotated);
  // The (fractional) frequency that turns this often.
  const auto index_of = [&](double rotations) {
    return dim * std::log(trained / (rotations * 2 * std::numbers::pi)) / (2 * std::log(rope->theta));
  };
  double low = index_of(fast), high = index_of(slow);
  // (null is false here, as in HF.)
  if (!object.json().contains("truncate") || object.boolean_or("truncate", false)) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, dim - 1);
  if (low == high) high += 0.001;
  for (size_t i = 0; i < rope->inv_freq.size(); ++i) {
    const double ramp = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
    double& f = rope->inv_freq[i];
    f = f / factor * ramp + f * (1 - ramp);
  }
  rope->attention_factor = yarn_attention_factor(object, factor);
}

// [n] positive numbers.
std::vector<double> read_factors(const JsonObject& object, const char* key, size_t n) {
  const Json& list = object.at(key);
  const auto is_factor = [](const Json& f) { return f.is_number() && f.get<double>() > 0; };
  if (!list.is_array() || list.size() != n || !std::all_of(list.begin(), list.end(), is_factor)) {
    refuse_value(object, key, fmt::format("a list of {} positive numbers", n),
                 list.is_array() ? fmt::format("{} elements", list.size()) : json_text(list));
  }
  return list.get<std::vector<double>>();
}

// LongRoPE (Ding et al. 2024): every frequency has a divisor of its own, and another one in longer texts.
void apply_longrope(const RopeSettings& settings, int64_t max_positions, RopeConfig* rope) {
  const JsonObject& object = settings.object();
  const double trained = settings.trained_length(max_positions);
  const double factor =
      object.has("factor") ? positive(object, "factor") : static_cast<double>(max_positions) / trained;
  if (object.has("attention_factor")) {
    rope->attention_factor = object.number("attention_factor");
  } else if (factor > 1) {
    rope->attention_factor = std::sqrt(1 + std::log(factor) / std::log(trained));
  }
  const size_t n = rope->inv_freq.size();
  const std::vector<double> short_ones = read_factors(object, "short_factor", n);
  const std::vector<double> long_ones = read_factors(object, "long_factor", n);
  rope->longrope = {static_cast<int64_t>(trained), rope->inv_freq};
  for (size_t i = 0; i < n; ++i) {
    rope->inv_freq[i] /= short_ones[i];
    rope->longrope->inv_freq[i] /= long_ones[i];
  }
}

void apply_type(const RopeSettings& settings, int64_t max_positions, int64_t rotated, RopeConfig* rope) {
  if (rope->type == "linear") {
    const double factor = positive(settings.object(), "factor");
    for (double& f : rope->inv_freq) f /= factor;
  } else if (rope->type == "llama3") {
    apply_llama3(settings, max_positions, rope);
  } else if (rope->type == "yarn") {
    apply_yarn(settings, max_positions, rotated, rope);
  } else if (rope->type == "longrope") {
    apply_longrope(settings, max_positions, rope);
  } else if (rope->type == "dynamic") {
    rope->dynamic = {positive(settings.object(), "factor"), max_positions, rotated - 2};
  }
}

// Rotated dims of a head; the error of a type that cannot be with as many.
int64_t rotated_dims(const JsonObject& config, const std::string& type, int64_t head_dim, double share) {
  const auto rotated = static_cast<int64_t>(static_cast<double>(head_dim) * share);
  const bool fits = rotated >= 1 && (rotated + 1) / 2 * 2 <= head_dim;
  const bool suits = (type != "yarn" || rotated % 2 == 0) && (type != "dynamic" || rotated > 2);
  if (fits && suits) return rotated;
  throw Error(ErrorCode::kBadFile, "rotary positions need an even part of each head",
              {.file = config.file(),
               .place = "head_dim",
               .expected = type == "dynamic" ? "more than 2 rotated dims" : "an even number of rotated dims",
               .got = fmt::format("{} of {}", rotated, head_dim)});
}

void add_rope(RopeSettings settings, const JsonObject& config, const RopePlaces& places, ModelConfig* out) {
  RopeConfig& rope = out->ropes.emplace_back();
  out->position = PositionType::kRope;
  rope.type = settings.type();
  rope.theta = settings.theta();
  if (settings.share() > 1) {
    refuse_value(config, places.share_key, "a number above 0, at most 1",
                 fmt::format("{}", settings.share()));
  }
  if (!places.rotates_share && settings.share() != 1) {
    // (The other types make frequencies for the share in HF, which then do not fit its heads.)
    if (rope.type != "default") {
      refuse_value(config, "partial_rotary_factor", "1: this family rotates all of the head",
                   fmt::format("{}", settings.share()));
    }
    settings.ignore_share("this family rotates all of it");
  }
  const int64_t rotated = rotated_dims(config, rope.type, out->head_dim, settings.share());
  rope.dim = (rotated + 1) / 2 * 2;  // an odd share is rounded up, its exponents stay i / rotated
  for (int64_t i = 0; i < rope.dim; i += 2)
    rope.inv_freq.push_back(std::pow(rope.theta, -static_cast<double>(i) / static_cast<double>(rotated)));
  apply_type(settings, out->max_positions, rotated, &rope);
  for (const double f : rope.inv_freq) {
    if (std::isfinite(f) && std::isfinite(rope.attention_factor)) continue;
    throw Error(ErrorCode::kBadFile, "the rotary frequencies overflow",
                {.file = config.file(), .place = "rope_theta"});
  }
  settings.warn(rope);
}

}  // namespace

void read_rope(const JsonObject& config, const RopePlaces& places, ModelConfig* out) {
  add_rope(RopeSettings(config, places), config, places, out);
}

void read_rope_of_layers(const JsonObject& config, const JsonObject& settings, double theta,
                         ModelConfig* out) {
  add_rope(RopeSettings(config, settings, theta), config, {}, out);
}

void RopeConfig::frequencies(int64_t length, double* out) const {
  const bool is_long = longrope && length > longrope->trained_length;
  std::copy_n(is_long ? longrope->inv_freq.data() : inv_freq.data(), inv_freq.size(), out);
  if (!dynamic || length <= dynamic->trained_length) return;
  const double share = static_cast<double>(length) / static_cast<double>(dynamic->trained_length);
  const double stretch = dynamic->factor * share - (dynamic->factor - 1);
  for (size_t i = 0; i < inv_freq.size(); ++i)
    out[i] *= std::pow(stretch, -2.0 * static_cast<double>(i) / static_cast<double>(dynamic->exponent_dim));
}

}  // namespace sepllm
