#include "model/families/common.h"

#include <fmt/format.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/log.h"

namespace sepllm {
namespace {

constexpr std::pair<const char*, Activation> kActivations[] = {
    {"gelu", Activation::kGelu},
    {"gelu_python", Activation::kGelu},
    {"gelu_new", Activation::kGeluTanh},
    {"gelu_fast", Activation::kGeluTanh},
    {"gelu_accurate", Activation::kGeluTanh},
    {"gelu_pytorch_tanh", Activation::kGeluTanh},
    {"gelu_python_tanh", Activation::kGeluTanh},
    {"relu", Activation::kRelu},
    {"silu", Activation::kSilu},
    {"swish", Activation::kSilu},
};

bool add_id(const JsonObject& config, const char* key, const Json& value, int64_t vocab_size,
            std::vector<int32_t>* out) {
  if (!value.is_number_integer())
    refuse_value(config, key, "a token id, a list of ids or null", json_text(value));
  const auto id = value.get<int64_t>();
  if (id < 0 || id >= vocab_size) return false;
  out->push_back(static_cast<int32_t>(id));
  return true;
}

}  // namespace

void refuse_value(const JsonObject& config, const char* key, const std::string& expected,
                  const std::string& got) {
  throw Error(ErrorCode::kBadFile, "wrong value",
              {.file = config.file(), .place = config.path_of(key), .expected = expected, .got = got});
}

const char* first_key(const JsonObject& config, std::initializer_list<const char*> keys) {
  for (const char* key : keys) {
    if (config.has(key)) return key;
  }
  return *keys.begin();
}

int64_t divided_head_dim(const JsonObject& config, const char* heads_key, int64_t hidden_size,
                         int64_t n_heads) {
  if (hidden_size % n_heads != 0) {
    refuse_value(config, heads_key, fmt::format("a divisor of the hidden size {}", hidden_size),
                 std::to_string(n_heads));
  }
  if (hidden_size / n_heads > kMaxHeadDim) {
    refuse_value(config, heads_key,
                 fmt::format("heads of at most {} of the hidden size {}", kMaxHeadDim, hidden_size),
                 std::to_string(n_heads));
  }
  return hidden_size / n_heads;
}

double usual_attention_scale(int64_t head_dim) { return 1.0 / std::sqrt(static_cast<double>(head_dim)); }

Activation read_activation(const JsonObject& config, const char* key, const char* fallback) {
  const std::string name = config.string_or(key, fallback);
  std::string known;
  for (const auto& [known_name, activation] : kActivations) {
    if (name == known_name) return activation;
    known += (known.empty() ? "" : ", ") + std::string(known_name);
  }
  throw Error(ErrorCode::kUnsupported, "unknown activation",
              {.file = config.file(), .place = config.path_of(key), .expected = known, .got = name});
}

double read_epsilon(const JsonObject& config, const char* key, double fallback) {
  const double eps = config.number_or(key, fallback);
  if (!(eps >= 0 && eps <= 1)) refuse_value(config, key, "a number from 0 to 1", fmt::format("{}", eps));
  return eps;
}

void require_flag(const JsonObject& config, const char* key, bool fallback, bool required) {
  if (config.boolean_or(key, fallback) == required) return;
  throw Error(ErrorCode::kUnsupported, "this variant is not supported",
              {.file = config.file(),
               .place = config.path_of(key),
               .expected = required ? "true" : "false",
               .got = required ? "false" : "true"});
}

std::vector<int32_t> read_id_list(const JsonObject& config, const char* key, int64_t vocab_size) {
  std::vector<int32_t> ids;
  if (!config.has(key)) return ids;
  const Json& value = config.at(key);
  bool all_known = true;
  if (value.is_array()) {
    for (const Json& id : value) all_known &= add_id(config, key, id, vocab_size, &ids);
  } else {
    all_known = add_id(config, key, value, vocab_size, &ids);
  }
  if (!all_known) {
    log_warning(fmt::format("{}: {}: ids outside the vocabulary of {} are ignored", config.file(),
                            config.path_of(key), vocab_size));
  }
  return ids;
}

void read_token_ids(const JsonObject& config, std::optional<int32_t> default_bos,
                    std::optional<int32_t> default_eos, ModelConfig* out) {
  const auto with_default = [&](const char* key, std::optional<int32_t> fallback) {
    if (config.json().contains(key)) return read_id_list(config, key, out->vocab_size);
    std::vector<int32_t> ids;
    if (fallback && *fallback < out->vocab_size) ids.push_back(*fallback);
    return ids;
  };
  const auto bos = with_default("bos_token_id", default_bos);
  if (!bos.empty()) out->bos_token_id = bos.front();
  out->eos_token_ids = with_default("eos_token_id", default_eos);
  out->eos_stated = config.has("eos_token_id") && !out->eos_token_ids.empty();
}

std::vector<double> alibi_slopes(int64_t n_heads) {
  int64_t power = 1;
  while (power * 2 <= n_heads) power *= 2;
  std::vector<double> slopes;
  slopes.reserve(static_cast<size_t>(n_heads));
  const auto slope = [](int64_t heads, int64_t k) {
    return std::exp2(-8.0 * static_cast<double>(k) / static_cast<double>(heads));
  };
  for (int64_t k = 1; k <= power; ++k) slopes.push_back(slope(power, k));
  for (int64_t k = 1; static_cast<int64_t>(slopes.size()) < n_heads; k += 2) {
    slopes.push_back(slope(2 * power, k));
  }
  return slopes;
}

QkvLayout grouped_qkv(int64_t group) {
  return {.q_group_stride = group + 2, .k_offset = group, .v_offset = group + 1, .kv_stride = group + 2};
}

QkvLayout separate_qkv(int64_t n_heads, int64_t n_kv_heads) {
  return {.q_group_stride = n_heads / n_kv_heads,
          .k_offset = n_heads,
          .v_offset = n_heads + n_kv_heads,
          .kv_stride = 1};
}

void set_layers(ModelConfig* config, LayerSpec layer) {
  if (layer.attention_scale == 0) layer.attention_scale = usual_attention_scale(config->head_dim);
  if (layer.rope == LayerSpec::kNoRope && !config->ropes.empty()) layer.rope = 0;
  config->layers.assign(static_cast<size_t>(config->n_layers), layer);
}

}  // namespace sepllm
