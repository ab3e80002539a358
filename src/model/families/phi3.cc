// Phi-3, 3.5 and 4-mini: as Llama, with one matrix each for queries, keys and values and for gate and up, a
// sliding window in every layer or in none, and LongRoPE. Reference: HF modeling_phi3.py.
#include <cstddef>
#include <string>
#include <vector>

#include "base/error.h"
#include "model/families/llama_form.h"

namespace sepllm {
namespace {

constexpr const char* kTrainedLength = "original_max_position_embeddings";

// The config with the rope settings as transformers reads them: the older names "su" and "yarn" mean
// longrope, no other type than that and the default exists, and the trained length stands at the top level.
Json with_known_rope(const JsonObject& config) {
  Json out = config.json();
  if (!config.has(kTrainedLength)) out[kTrainedLength] = 4096;
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    if (!config.has(key)) continue;
    const JsonObject rope = config.object(key);
    const char* type_key = first_key(rope, {"rope_type", "type"});
    const std::string type = rope.string_or(type_key, "default");
    if (type == "su" || type == "yarn") {
      out[key]["rope_type"] = "longrope";
    } else if (type != "default" && type != "longrope") {
      throw Error(ErrorCode::kUnsupported, "unknown rope type",
                  {.file = config.file(),
                   .place = rope.path_of(type_key),
                   .expected = "default or longrope (also as su or yarn)",
                   .got = type});
    }
  }
  return out;
}

ModelSpec parse_phi3(const JsonObject& config) {
  ModelSpec spec;
  ModelConfig& c = spec.config;
  read_llama_form(config, {.max_positions = 4096, .norm_eps = 1e-5, .bos = 1, .eos = 32000}, &c);
  config.integer_or(kTrainedLength, 4096, 2, kMaxPositions);
  const Json known = with_known_rope(config);
  read_rope(JsonObject(known, config.file()), {.rotates_share = true}, &c);
  set_layers(&c, {.window = read_sliding_window(config, 0)});
  set_llama_names(&spec, fused_layer_names);
  return spec;
}

Json new_phi3(const NewModelSizes& s) {
  Json config = new_llama_form_without_padding(s);
  config[kTrainedLength] = s.max_positions;
  return config;
}

Json tiny_phi3(const NewModelSizes& s) {
  const auto n = static_cast<size_t>(s.hidden_size / s.n_heads / 2);
  return {{"intermediate_size", 3 * s.hidden_size},
          {kTrainedLength, s.max_positions / 4},
          {"rope_scaling",
           {{"rope_type", "longrope"},
            {"short_factor", std::vector<double>(n, 1.25)},
            {"long_factor", std::vector<double>(n, 4.5)}}}};
}

}  // namespace

const Family& family_phi3() {
  static const Family kFamily = {
      .name = "phi3",
      .architecture = "Phi3ForCausalLM",
      .model_types = {"phi3"},
      .parse = parse_phi3,
      .new_config = new_phi3,
      .unused_settings = {{"rotary_pct", "new phi3 models rotate all of each head"}},
      .variants = {{"phi3", tiny_phi3}},
  };
  return kFamily;
}

}  // namespace sepllm
