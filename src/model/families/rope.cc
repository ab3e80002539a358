// Rotary frequencies from config.json, as HF modeling_rope_utils.py computes them, but in double.
#include <fmt/format.h>

#include <cmath>
#include <numbers>

#include "base/error.h"
#include "model/families/common.h"

namespace sepllm {
namespace {

constexpr const char* kKnownTypes = "default, linear, llama3";

double positive(const JsonObject& object, const char* key) {
  const double value = object.number(key);
  if (!(value > 0)) {
    refuse_value(object, key, "a positive number", fmt::format("{}", value));
  }
  return value;
}

// The object that holds the parameters; nullopt if there is none (or an empty one, as HF has it).
std::optional<JsonObject> rope_object(const JsonObject& config) {
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    if (!config.has(key)) continue;
    JsonObject object = config.object(key);
    if (object.json().empty()) continue;
    for (const auto& [name, value] : object.json().items()) {
      if (!value.is_object()) continue;
      throw Error(ErrorCode::kUnsupported, "rope parameters per layer type are not supported",
                  {.file = config.file(), .place = object.path_of(name.c_str())});
    }
    return object;
  }
  return std::nullopt;
}

double read_theta(const JsonObject& config, const std::optional<JsonObject>& rope, const char* old_key) {
  if (rope && rope->has("rope_theta")) return positive(*rope, "rope_theta");
  for (const char* key : {old_key, "rope_theta"}) {
    if (config.has(key)) return positive(config, key);
  }
  return 10000.0;
}

double read_partial(const JsonObject& config, const std::optional<JsonObject>& rope,
                    const RopeDefaults& defaults) {
  const auto read = [&](const JsonObject& object, const char* key) {
    const double share = positive(object, key);
    if (share > 1 || (defaults.partial_key == nullptr && share != 1)) {
      throw Error(ErrorCode::kBadFile, "wrong share of the head to rotate",
                  {.file = object.file(),
                   .place = object.path_of(key),
                   .expected = defaults.partial_key == nullptr ? "1" : "a number above 0, at most 1",
                   .got = fmt::format("{}", share)});
    }
    return share;
  };
  if (rope && rope->has("partial_rotary_factor")) return read(*rope, "partial_rotary_factor");
  if (defaults.partial_key != nullptr && config.has(defaults.partial_key)) {
    return read(config, defaults.partial_key);
  }
  if (config.has("partial_rotary_factor")) return read(config, "partial_rotary_factor");
  return defaults.partial;
}

struct Llama3Scaling {
  double factor, low, high, old_context;

  // Long waves are stretched by `factor`, short ones are kept, those between are blended.
  double operator()(double inv_freq) const {
    const double wavelength = 2 * std::numbers::pi / inv_freq;
    if (wavelength > old_context / low) return inv_freq / factor;
    if (wavelength < old_context / high) return inv_freq;
    const double smooth = (old_context / wavelength - low) / (high - low);
    return (1 - smooth) * inv_freq / factor + smooth * inv_freq;
  }
};

Llama3Scaling read_llama3(const JsonObject& config, const JsonObject& rope, int64_t max_positions) {
  const char* key = "original_max_position_embeddings";
  const double old_context = config.has(key) ? positive(config, key)
                             : rope.has(key) ? positive(rope, key)
                                             : static_cast<double>(max_positions);
  const Llama3Scaling scaling{positive(rope, "factor"), positive(rope, "low_freq_factor"),
                              positive(rope, "high_freq_factor"), old_context};
  if (!(scaling.high > scaling.low)) {
    refuse_value(rope, "high_freq_factor", fmt::format("more than low_freq_factor, {}", scaling.low),
                 fmt::format("{}", scaling.high));
  }
  return scaling;
}

void apply_scaling(const JsonObject& config, const std::optional<JsonObject>& rope, ModelConfig* out) {
  if (out->rope_type == "default") return;
  if (out->rope_type == "linear") {
    const double factor = positive(*rope, "factor");
    for (double& f : out->rope_inv_freq) f /= factor;
    return;
  }
  const Llama3Scaling scaling = read_llama3(config, *rope, out->max_positions);
  for (double& f : out->rope_inv_freq) f = scaling(f);
}

std::string read_type(const std::optional<JsonObject>& rope) {
  if (!rope) return "default";
  const char* key = first_key(*rope, {"rope_type", "type"});
  const std::string type = rope->string_or(key, "default");
  if (type != "default" && type != "linear" && type != "llama3") {
    throw Error(ErrorCode::kUnsupported, "unknown rope type",
                {.file = rope->file(), .place = rope->path_of(key), .expected = kKnownTypes, .got = type});
  }
  return type;
}

}  // namespace

void read_rope(const JsonObject& config, const RopeDefaults& defaults, ModelConfig* out) {
  const auto rope = rope_object(config);
  out->position = PositionType::kRope;
  out->rope_pairing = RopePairing::kHalf;
  out->rope_type = read_type(rope);
  out->rope_theta = read_theta(config, rope, defaults.theta_key);
  const double share = read_partial(config, rope, defaults);
  const auto rotated = static_cast<int64_t>(static_cast<double>(out->head_dim) * share);
  out->rope_dim = (rotated + 1) / 2 * 2;  // an odd share is rounded up, its exponents stay i / rotated
  if (rotated < 1 || out->rope_dim > out->head_dim) {
    throw Error(ErrorCode::kBadFile, "rotary positions need an even part of each head",
                {.file = config.file(),
                 .place = "head_dim",
                 .expected = "an even number of rotated dims",
                 .got = fmt::format("{} of {}", rotated, out->head_dim)});
  }
  for (int64_t i = 0; i < out->rope_dim; i += 2) {
    out->rope_inv_freq.push_back(
        std::pow(out->rope_theta, -static_cast<double>(i) / static_cast<double>(rotated)));
  }
  apply_scaling(config, rope, out);
  for (const double f : out->rope_inv_freq) {
    if (!std::isfinite(f)) {
      throw Error(ErrorCode::kBadFile, "the rotary frequencies overflow",
                  {.file = config.file(), .place = "rope_theta"});
    }
  }
}

}  // namespace sepllm
