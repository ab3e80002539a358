#include "model/config.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "checkpoint/foreign_weights.h"
#include "checkpoint/gguf.h"
#include "checkpoint/model_folder.h"
#include "checkpoint/weight_store.h"
#include "model/families/common.h"
#include "model/families/family.h"
#include "model/gguf/spec.h"

namespace sepllm {
namespace {

constexpr uint64_t kMaxConfigBytes = uint64_t{16} << 20;

const Family& family_of(const JsonObject& config) {
  const std::string type = config.has("model_type") ? config.string("model_type") : "";
  for (const Family* family : families()) {
    for (const char* known : family->model_types) {
      if (type == known) return *family;
    }
  }
  throw Error(ErrorCode::kUnsupported, "unknown model family",
              {.file = config.file(),
               .place = "model_type",
               .expected = fmt::format("one of {}", fmt::join(known_families(), ", ")),
               .got = type.empty() ? "none" : type});
}

// What wrote a "quantization_config" without "quant_method": bitsandbytes in its first years.
std::string older_quantizer(const JsonObject& q) {
  return q.has("load_in_8bit") || q.has("load_in_4bit") ? "bitsandbytes" : "unknown";
}

// "quantization_config" as `sepllm quantize` writes it.
std::optional<DType> read_blocks(const JsonObject& config) {
  if (!config.has("quantization_config")) return std::nullopt;
  const JsonObject q = config.object("quantization_config");
  const auto refuse = [&](const char* message, const char* key, const std::string& expected,
                          const std::string& got) {
    throw Error(ErrorCode::kUnsupported, message,
                {.file = config.file(), .place = q.path_of(key), .expected = expected, .got = got});
  };
  const std::string method = q.string_or("quant_method", older_quantizer(q));
  if (method != "sepllm") {
    throw Error(ErrorCode::kUnsupported,
                fmt::format("the weights are quantised by another program: {}", quantizer_name(method)),
                {.file = config.file(),
                 .place = q.path_of("quant_method"),
                 .expected = "F32, F16 or BF16 weights, or those of `sepllm quantize`",
                 .got = method,
                 .hint = kForeignRemedy});
  }
  const std::string name = q.string("type");
  std::string known;
  for (const DType type : kBlockTypes) {
    if (name == dtype_name(type)) {
      q.integer("block_size", block_elements(type), block_elements(type));
      return type;
    }
    known += (known.empty() ? "" : " or ") + std::string(dtype_name(type));
  }
  refuse("unknown type of quantised weights", "type", known, name);
  return std::nullopt;
}

void read_shared(const JsonObject& config, ModelConfig* c) {
  // Some tools write something else than a string here; the value is only shown.
  for (const char* key : {"dtype", "torch_dtype"}) {
    if (c->stored_dtype.empty() && config.has(key) && config.at(key).is_string()) {
      c->stored_dtype = config.string(key);
    }
  }
  if (config.has("sepllm")) c->policy = config.object("sepllm").json();
}

// The end tokens that this file states replace those of config.json, as in transformers, because instruct
// models end their turns with other tokens than their base models. A file that states none changes nothing
// (transformers then never stops).
void read_generation_config(const std::string& folder, ModelConfig* c) {
  const std::string path = folder + "/generation_config.json";
  if (!file_exists(path)) return;
  const Json json = read_json(path, kMaxConfigBytes);
  std::vector<int32_t> ids = read_id_list(JsonObject(json, path), "eos_token_id", c->vocab_size);
  if (ids.empty()) return;
  c->eos_token_ids = std::move(ids);
  c->eos_stated = true;
}

}  // namespace

ModelSpec parse_model_spec(const Json& json, const std::string& file) {
  const JsonObject config(json, file);
  const Family& family = family_of(config);
  // If a config is refused, there are no warnings about its other parts.
  HeldWarnings warnings;
  const Json text = family.text_config == nullptr ? Json() : family.text_config(config);
  ModelSpec spec = family.parse(text.is_null() ? config : JsonObject(text, file, "text_config"));
  if (!text.is_null()) {
    log_warning(fmt::format("{}: only the text model of this {} is read: its other parts are left out", file,
                            config.string("model_type")));
  }
  spec.config.family = family.name;
  if (config.boolean_or(kNsaGatesKey, false)) add_nsa_gates(&spec, file);
  read_shared(config, &spec.config);
  spec.blocks = read_blocks(config);
  if (spec.blocks) spec.config.stored_dtype = dtype_name(*spec.blocks);
  warnings.release();
  return spec;
}

std::string config_path(const std::string& model) {
  return is_regular_file(model) ? model : model + "/config.json";
}

Json read_config_json(const std::string& model) {
  if (is_gguf_file(model)) return gguf_config(WeightStore::open(model));
  check_model_folder(model);
  const std::string path = config_path(model);
  if (!file_exists(path)) refuse_model_folder(model, "config.json");
  return read_json(path, kMaxConfigBytes);
}

Json text_model_config(const Json& json, const std::string& file) {
  const JsonObject config(json, file);
  const Family& family = family_of(config);
  const Json text = family.text_config == nullptr ? Json() : family.text_config(config);
  return text.is_null() ? json : text;
}

ModelSpec read_model_spec(const std::string& folder) {
  HeldWarnings warnings;  // as above
  if (is_gguf_file(folder)) {
    ModelSpec spec = read_gguf_spec(WeightStore::open(folder));
    warnings.release();
    return spec;
  }
  ModelSpec spec = parse_model_spec(read_config_json(folder), config_path(folder));
  read_generation_config(folder, &spec.config);
  warnings.release();
  return spec;
}

std::vector<int64_t> ModelConfig::own_windows() const {
  std::vector<int64_t> out;
  for (const LayerSpec& layer : layers) out.push_back(layer.window);
  const bool any = std::any_of(out.begin(), out.end(), [](int64_t window) { return window > 0; });
  return any ? out : std::vector<int64_t>();
}

bool ModelConfig::has_nsa_gates() const {
  return std::any_of(layers.begin(), layers.end(), [](const LayerSpec& layer) { return layer.nsa_gates; });
}

// The gates' matrix lies next to the one of the attention's output, in every family: its name is that one's
// with another last part, as in fla's models ("layers.3.self_attn.g_proj").
void add_nsa_gates(ModelSpec* spec, const std::string& file) {
  if (spec->config.position == PositionType::kAlibi) {
    throw Error(ErrorCode::kUnsupported, "native sparse attention is not defined for ALiBi", {.file = file});
  }
  for (size_t l = 0; l < spec->config.layers.size(); ++l) {
    if (spec->config.layers[l].window > 0) continue;
    spec->config.layers[l].nsa_gates = true;
    const std::string& out = spec->names.layers[l].attention_out.base;
    spec->names.layers[l].gates = {out.substr(0, out.rfind('.') + 1) + "g_proj"};
  }
}

ModelSpec without_nsa_gates(ModelSpec spec) {
  for (LayerSpec& layer : spec.config.layers) layer.nsa_gates = false;
  return spec;
}

bool ModelConfig::all_layers_local() const {
  return std::all_of(layers.begin(), layers.end(), [](const LayerSpec& layer) { return layer.window > 0; });
}

const RopeConfig* ModelConfig::rope_by_length() const {
  const RopeConfig* found = nullptr;
  for (const RopeConfig& rope : ropes) {
    if (!rope.by_length()) continue;
    if (found == nullptr || rope.trained_length() < found->trained_length()) found = &rope;
  }
  return found;
}

std::vector<std::string> known_families() {
  std::vector<std::string> names;
  for (const Family* family : families()) {
    for (const char* type : family->model_types) names.emplace_back(type);
  }
  return names;
}

}  // namespace sepllm
