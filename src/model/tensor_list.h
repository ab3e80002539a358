// The list of a model's tensors, in one place: which of them exist and their shapes, with their names (for
// loading, and for the generator of random models) and without (for code that counts or hashes weights).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "model/config.h"
#include "model/layer_parts.h"
#include "model/stored_names.h"
#include "model/weights.h"

namespace sepllm {

struct NormShape {
  int64_t n = 0;  // elements; 0: the layer does not have it
  bool bias = false;
};
struct LinearShape {
  int64_t n_out = 0, n_in = 0;  // n_out 0: the layer does not have it
  bool bias = false;
  int64_t out_offset = 0;  // Linear::out_offset
};
using LayerShapes = LayerParts<NormShape, LinearShape>;

// The shapes of the parts of layer l. (Whether matrices are fused is known only from the names.)
LayerShapes layer_shapes(const ModelConfig& config, int64_t l, const LayerNames& names);

// Calls for each tensor of a layer, in order of use:
//   visitor.norm(Norm&, weight name, bias name, n)
//   visitor.linear(Linear&, weight name, bias name, n_out, n_in)
// with full names; an empty bias name: none.
template <typename Visitor>
void visit_layer(const LayerShapes& shapes, const LayerNames& names, const std::string& prefix,
                 LayerWeights* out, Visitor& visitor) {
  out->qkv.resize(names.qkv.size());
  out->mlp_in.resize(names.mlp_in.size());
  const auto norm = [&](const NormShape& shape, const NormName& name, Norm& slot) {
    if (shape.n > 0)
      visitor.norm(slot, prefix + name.weight(), shape.bias ? prefix + name.bias() : "", shape.n);
  };
  const auto linear = [&](const LinearShape& shape, const LinearName& name, Linear& slot) {
    if (shape.n_out == 0) return;
    visitor.linear(slot, prefix + name.weight(), shape.bias ? prefix + name.bias() : "", shape.n_out,
                   shape.n_in);
    slot.out_offset = shape.out_offset;
  };
  for_each_part(Overloaded{norm, linear}, shapes, names, *out);
}

// The same for the whole model, and visitor.table(Weight&, name, rows, columns) for the embeddings and an
// untied head. A tied head is left to the caller. If the visitor has begin_layer(l), it is called before each
// layer, and with n_layers after the last one.
template <typename Visitor>
void visit_model(const ModelSpec& spec, const StoredNames& stored, ModelWeights* out, Visitor& visitor) {
  const ModelConfig& c = spec.config;
  const std::string& prefix = stored.prefix;
  const auto begin_layer = [&](int64_t l) {
    if constexpr (requires { visitor.begin_layer(l); }) visitor.begin_layer(l);
  };
  visitor.table(out->token_embedding, stored.token_embedding, c.vocab_size, c.hidden_size);
  if (c.position == PositionType::kLearned) {
    visitor.table(out->position_embedding, prefix + spec.names.position_embedding, c.max_positions,
                  c.hidden_size);
  }
  out->layers.resize(spec.names.layers.size());
  for (int64_t l = 0; l < c.n_layers; ++l) {
    const LayerNames& names = spec.names.layers[static_cast<size_t>(l)];
    begin_layer(l);
    visit_layer(layer_shapes(c, l, names), names, prefix, &out->layers[static_cast<size_t>(l)], visitor);
  }
  begin_layer(c.n_layers);
  const NormName& norm = spec.names.final_norm;
  visitor.norm(out->final_norm, prefix + norm.weight(),
               c.norm == NormType::kLayerNorm ? prefix + norm.bias() : "", c.hidden_size);
  if (!stored.tied) visitor.table(out->head.weight, stored.head, c.vocab_size, c.hidden_size);
}

// Calls fn(Weight&) for the embeddings, fn(Norm&) and fn(Linear&) for all others, including a tied head.
// Parts that the model does not have are passed without data.
template <typename Fn, typename Weights>
void for_each_tensor(Fn&& fn, Weights& weights) {
  fn(weights.token_embedding);
  fn(weights.position_embedding);
  for (auto& layer : weights.layers) for_each_part(fn, layer);
  fn(weights.final_norm);
  fn(weights.head);
}

}  // namespace sepllm
