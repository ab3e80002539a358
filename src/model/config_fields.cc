#include "model/config_fields.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "model/families/common.h"

namespace sepllm {
namespace {

const char* text_of(NormType t) { return t == NormType::kRmsNorm ? "RMS norm" : "layer norm"; }
const char* text_of(BlockType t) {
  constexpr const char* kNames[] = {"sequential", "parallel", "parallel, shared norm"};
  return kNames[static_cast<size_t>(t)];
}
const char* text_of(Activation a) {
  constexpr const char* kNames[] = {"GELU", "GELU (tanh)", "ReLU", "SiLU"};
  return kNames[static_cast<size_t>(a)];
}
const char* text_of(PositionType p) {
  constexpr const char* kNames[] = {"rotary", "ALiBi", "learned"};
  return kNames[static_cast<size_t>(p)];
}
const char* text_of(RopePairing p) { return p == RopePairing::kHalf ? "halves" : "interleaved"; }
const char* text_of(QkNorm n) {
  constexpr const char* kNames[] = {"none", "each head", "all heads"};
  return kNames[static_cast<size_t>(n)];
}

std::string bytes_of(int64_t value) { return {reinterpret_cast<const char*>(&value), sizeof value}; }
std::string bytes_of(double value) { return {reinterpret_cast<const char*>(&value), sizeof value}; }
std::string bytes_of(const std::vector<double>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(double)};
}

// Collects the fields.
class Fields {
 public:
  // Said, and not computed with.
  void say(const std::string& name, Json shown) { list_.push_back({name, std::move(shown), {}}); }
  // Hashed in every model.
  void add(const std::string& name, int64_t value) { list_.push_back({name, value, bytes_of(value)}); }
  void add(const std::string& name, double value) { list_.push_back({name, value, bytes_of(value)}); }
  void add(const std::string& name, bool value) {
    list_.push_back({name, value, bytes_of(static_cast<int64_t>(value))});
  }
  template <typename Enum>
  void choice(const std::string& name, Enum value) {
    list_.push_back({name, text_of(value), bytes_of(static_cast<int64_t>(value))});
  }
  void add_list(const std::string& name, const std::vector<double>& values) {
    list_.push_back({name, values.empty() ? std::nullopt : std::optional<Json>(values), bytes_of(values)});
  }
  void add_bytes(const std::string& name, std::optional<Json> shown, std::string hashed) {
    list_.push_back({name, std::move(shown), std::move(hashed)});
  }
  // Hashed, with its name, only where it is not as usual.
  void add_rare(const std::string& name, double value, double usual) {
    list_.push_back({name, value, value == usual ? "" : name + bytes_of(value)});
  }
  // The same of each layer: value(layer) is an int64_t, shown(layer) what is printed.
  template <typename Value, typename Shown>
  void add_of_layers(const std::string& name, const ModelConfig& c, int64_t usual, const Value& value,
                     const Shown& shown) {
    std::string hashed;
    for (int64_t l = 0; l < c.n_layers; ++l) {
      const auto v = static_cast<int64_t>(value(c.layer(l)));
      if (v != usual) hashed += name + bytes_of(l) + bytes_of(v);
    }
    list_.push_back({name, shown_of_layers(c, shown), std::move(hashed), /*of_layers=*/true});
  }
  // The same with what is hashed, if anything is.
  template <typename Shown>
  void say_of_layers(const std::string& name, const ModelConfig& c, std::string hashed, const Shown& shown) {
    list_.push_back({name, shown_of_layers(c, shown), std::move(hashed), /*of_layers=*/true});
  }

  std::vector<ConfigField> take() { return std::move(list_); }

 private:
  // One value if all layers have the same, else the list.
  template <typename Shown>
  static Json shown_of_layers(const ModelConfig& c, const Shown& shown) {
    Json all = Json::array();
    for (const LayerSpec& layer : c.layers) all.push_back(Json(shown(layer)));
    const bool equal = std::all_of(all.begin(), all.end(), [&](const Json& v) { return v == all.front(); });
    return equal && !all.empty() ? all.front() : all;
  }

  std::vector<ConfigField> list_;
};

// Of ropes[k]. The first is hashed as it always was, the others with their names.
void rope_fields(const RopeConfig& rope, const std::string& group, bool is_first, Fields* fields) {
  // (A new member must be named here: then decide below whether it is hashed.)
  const auto& [pairing, dim, theta, type, inv_freq, attention_factor, dynamic, longrope] = rope;
  const auto named = [&](const std::string& name, std::string hashed) {
    return is_first ? std::move(hashed) : group + name + std::move(hashed);
  };
  fields->say(group + "type", type);
  fields->say(group + "theta", theta);
  if (!is_first) {  // (Of the first these two are hashed between others.)
    fields->add_bytes(group + "pairing", Json(text_of(pairing)),
                      named("pairing", bytes_of(static_cast<int64_t>(pairing))));
    fields->add_bytes(group + "dims", Json(dim), named("dims", bytes_of(dim)));
    fields->add_bytes(group + "inv_freq", Json(inv_freq), named("inv_freq", bytes_of(inv_freq)));
  }
  if (attention_factor != 1.0) {
    fields->add_bytes(group + "attention_factor", Json(attention_factor),
                      named("attention_factor", bytes_of(attention_factor)));
  }
  if (longrope) {
    fields->add_bytes(group + "longrope",
                      Json{{"trained_length", longrope->trained_length}, {"inv_freq", longrope->inv_freq}},
                      named("longrope", bytes_of(longrope->trained_length) + bytes_of(longrope->inv_freq)));
  }
  if (!dynamic) return;
  fields->add_bytes(group + "dynamic",
                    Json{{"factor", dynamic->factor},
                         {"trained_length", dynamic->trained_length},
                         {"exponent_dim", dynamic->exponent_dim}},
                    named("dynamic", bytes_of(dynamic->factor) + bytes_of(dynamic->trained_length) +
                                         bytes_of(dynamic->exponent_dim)));
}

void layer_fields(const ModelConfig& c, Fields* fields) {
  // (As above.)
  const LayerSpec usual;
  const auto& [attention_scale, window, rope, norm_before, norm_after, qk_norm, qkv_bias, out_bias, mlp_bias,
               nsa_gates] = usual;
  const double usual_scale = usual_attention_scale(c.head_dim);
  std::string scales;
  for (int64_t l = 0; l < c.n_layers; ++l) {
    const double scale = c.layer(l).attention_scale;
    if (scale != usual_scale) scales += bytes_of(l) + bytes_of(scale);
  }
  fields->say_of_layers("attention_scale", c, scales, [](const LayerSpec& s) { return s.attention_scale; });
  const auto plain = [&](const char* name, int64_t usual, auto member) {
    const auto value = [member](const LayerSpec& s) { return s.*member; };
    fields->add_of_layers(name, c, usual, value, value);
  };
  plain("own_window", window, &LayerSpec::window);
  plain("layer_rope", c.ropes.empty() ? rope : 0, &LayerSpec::rope);
  plain("norm_before", static_cast<int64_t>(norm_before), &LayerSpec::norm_before);
  plain("norm_after", static_cast<int64_t>(norm_after), &LayerSpec::norm_after);
  fields->add_of_layers(
      "qk_norm", c, static_cast<int64_t>(qk_norm), [](const LayerSpec& s) { return s.qk_norm; },
      [](const LayerSpec& s) { return text_of(s.qk_norm); });
  plain("nsa_gates", static_cast<int64_t>(nsa_gates), &LayerSpec::nsa_gates);
  // (Whether there is a bias is hashed with the weights, as it always was.)
  const auto biases = [](const LayerSpec& s) {
    std::string out;
    for (const auto& [there, name] :
         {std::pair{s.qkv_bias, "qkv"}, {s.out_bias, "out"}, {s.mlp_bias, "mlp"}}) {
      if (there) out += (out.empty() ? "" : ", ") + std::string(name);
    }
    return out.empty() ? "none" : out;
  };
  fields->say_of_layers("biases", c, {}, biases);
}

}  // namespace

std::vector<ConfigField> config_fields(const ModelConfig& c) {
  // A new member of ModelConfig must be named here: then it is hashed and shown below, or only shown.
  const auto& [family, vocab_size, hidden_size, n_layers, n_heads, n_kv_heads, head_dim, intermediate_size,
               max_positions, norm, norm_eps, norm_offset, embed_scale, block, activation, gated_mlp,
               position, ropes, alibi_slopes, layers, qkv, tied_embeddings, bos_token_id, eos_token_ids,
               eos_stated, stored_dtype, policy] = c;
  // (qkv follows from the family; eos_stated and policy are not of the model.)
  const bool rotates = !ropes.empty();
  const RopeConfig first = rotates ? ropes.front() : RopeConfig();
  const auto of_rope = [&](const Json& shown) { return rotates ? std::optional<Json>(shown) : std::nullopt; };
  Fields fields;
  fields.add_bytes("family", Json(family), family);
  fields.add("vocab_size", vocab_size);
  fields.add("hidden_size", hidden_size);
  fields.add("layers", n_layers);
  fields.add("heads", n_heads);
  fields.add("kv_heads", n_kv_heads);
  fields.add("head_dim", head_dim);
  fields.add("intermediate_size", intermediate_size);
  fields.add("max_positions", max_positions);
  fields.choice("norm", norm);
  fields.choice("block", block);
  fields.choice("activation", activation);
  fields.add("gated_mlp", gated_mlp);
  fields.choice("positions", position);
  fields.add_bytes("rope.pairing", of_rope(text_of(first.pairing)),
                   bytes_of(static_cast<int64_t>(first.pairing)));
  fields.add_bytes("rope.dims", of_rope(first.dim), bytes_of(first.dim));
  fields.add("tied_embeddings", tied_embeddings);
  fields.add("norm_eps", norm_eps);
  fields.add_list("rope.inv_freq", first.inv_freq);
  fields.add_list("alibi_slopes", alibi_slopes);
  for (size_t k = 0; k < ropes.size(); ++k)
    rope_fields(ropes[k], k == 0 ? "rope." : fmt::format("rope_{}.", k), k == 0, &fields);
  layer_fields(c, &fields);
  fields.add_rare("norm_offset", norm_offset, 0);
  fields.add_rare("embed_scale", embed_scale, 1);
  fields.say("stored_dtype", stored_dtype);
  fields.say("bos_token_id", bos_token_id ? Json(*bos_token_id) : Json());
  fields.say("eos_token_ids", eos_token_ids);
  return fields.take();
}

void add_hash(Hash64* hash, const ModelConfig& config) {
  for (const ConfigField& field : config_fields(config)) hash->add(field.hashed.data(), field.hashed.size());
}

}  // namespace sepllm
