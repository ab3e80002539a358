#include "model/gguf/write.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "base/error.h"
#include "model/gguf/architecture.h"

namespace sepllm {
namespace {

const GgufArchitecture& architecture_for(const ModelConfig& config, const std::string& name) {
  std::vector<std::string> known;
  for (const GgufArchitecture* a : gguf_architectures()) {
    const std::vector<std::string> names(a->families.begin(), a->families.end());
    if (std::find(names.begin(), names.end(), config.family) != names.end()) return *a;
    known.insert(known.end(), names.begin(), names.end());
  }
  throw Error(
      ErrorCode::kUnsupported, "models of this family are not written as GGUF",
      {.file = name, .expected = fmt::format("one of {}", fmt::join(known, ", ")), .got = config.family});
}

// The keys that every architecture has.
void add_sizes(const ModelConfig& c, const std::string& prefix, GgufFields* out) {
  const auto size = [&](const char* key, int64_t value) {
    out->u32(prefix + key, static_cast<uint32_t>(value));
  };
  size("vocab_size", c.vocab_size);
  size("context_length", c.max_positions);
  size("embedding_length", c.hidden_size);
  size("block_count", c.n_layers);
  size("feed_forward_length", c.intermediate_size);
  size("attention.head_count", c.n_heads);
  size("attention.head_count_kv", c.n_kv_heads);
  out->f32(prefix + (c.norm == NormType::kRmsNorm ? "attention.layer_norm_rms_epsilon"
                                                  : "attention.layer_norm_epsilon"),
           static_cast<float>(c.norm_eps));
}

// Llama 3.1's scaling, as the factors by which it divides the frequencies.
GgufExtraTensor rope_factors(const RopeConfig& rope) {
  GgufExtraTensor out{.name = kGgufRopeFactors, .values = {}};
  for (size_t i = 0; i < rope.inv_freq.size(); ++i) {
    const double plain = std::pow(rope.theta, -2.0 * static_cast<double>(i) / static_cast<double>(rope.dim));
    out.values.push_back(static_cast<float>(plain / rope.inv_freq[i]));
  }
  return out;
}

void write_scaling(const RopeConfig& rope, const JsonObject& scaling, int64_t max_positions,
                   GgufTarget* target) {
  GgufFields& fields = target->model->fields;
  const std::string prefix = target->prefix + "rope.scaling.";
  if (rope.type == "llama3") {
    target->model->extra.push_back(rope_factors(rope));
  } else if (rope.type == "linear") {
    fields.text(prefix + "type", "linear");
    fields.f32(prefix + "factor", static_cast<float>(scaling.number("factor")));
  } else if (rope.type == "yarn") {
    for (const char* key : {"attention_factor", "mscale", "mscale_all_dim", "truncate"}) {
      if (scaling.has(key)) target->refuse(fmt::format("yarn with {}", key));
    }
    fields.text(prefix + "type", "yarn");
    fields.f32(prefix + "factor", static_cast<float>(scaling.number("factor")));
    const int64_t trained =
        scaling.integer_or("original_max_position_embeddings", max_positions, 1, INT32_MAX);
    fields.u32(prefix + "original_context_length", static_cast<uint32_t>(trained));
    for (const char* key : {"beta_fast", "beta_slow"}) {
      if (scaling.has(key)) fields.f32(prefix + "yarn_" + key, static_cast<float>(scaling.number(key)));
    }
  } else {
    target->refuse("rope type " + rope.type);
  }
}

}  // namespace

GgufModel gguf_model(const ModelSpec& spec, const Json& config, const std::string& name) {
  const GgufArchitecture& architecture = architecture_for(spec.config, name);
  const std::string title = std::filesystem::path(name).lexically_normal().filename().string();
  GgufModel out;
  out.fields.text("general.architecture", architecture.name);
  out.fields.text("general.name", title.empty() ? "model" : title);
  out.fields.u32("general.quantization_version", 2);
  const std::string prefix = std::string(architecture.name) + ".";
  add_sizes(spec.config, prefix, &out.fields);
  GgufTarget target{.file = name, .prefix = prefix, .config = config, .model = &out};
  if (spec.config.has_nsa_gates()) target.refuse("the gates of native sparse attention");
  architecture.write(spec.config, &target);
  // Programs that do not know the key pass over it.
  if (!spec.config.policy.is_null()) out.fields.text(kGgufPolicyKey, json_text(spec.config.policy));
  out.spec = gguf_spec(architecture, spec);
  return out;
}

void GgufTarget::refuse(const std::string& what) const {
  throw Error(ErrorCode::kUnsupported, "GGUF has no place for this setting of the model",
              {.file = file, .got = what, .hint = "a Hugging Face folder holds it"});
}

void gguf_write_rope(const ModelConfig& c, GgufTarget* target) {
  GgufFields& fields = target->model->fields;
  const RopeConfig& rope = c.ropes.at(0);
  fields.u32(target->prefix + "rope.dimension_count", static_cast<uint32_t>(rope.dim));
  fields.f32(target->prefix + "rope.freq_base", static_cast<float>(rope.theta));
  if (rope.type == "default") return;
  write_scaling(rope, JsonObject(gguf_scaling_of(target->config), target->file, "rope_scaling"),
                c.max_positions, target);
}

}  // namespace sepllm
