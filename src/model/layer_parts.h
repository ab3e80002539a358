// The parts that a transformer layer may have, as one list. A layer's names, shapes and weights are values of
// this one form, and for_each_part() is the only walk over it: a part that is added here is loaded, counted,
// hashed, drawn at random and trained by everything that uses the walk.
#pragma once

#include <cstddef>
#include <vector>

namespace sepllm {

template <typename NormT, typename LinearT>
struct LayerParts {
  NormT norm1{};             // before attention
  std::vector<LinearT> qkv;  // one fused matrix, or q, k, v; their outputs follow each other in the QKV row
  NormT q_norm{}, k_norm{};  // for queries and keys
  LinearT gates{};           // of NSA's branches: 3 outputs for each query head
  LinearT attention_out{};
  NormT post_norm1{};           // after attention
  NormT norm2{};                // before the MLP
  std::vector<LinearT> mlp_in;  // up; for a gated MLP gate and up, or both in one matrix
  LinearT mlp_down{};
  NormT post_norm2{};  // after the MLP
};

// Calls fn(part of the first, the same part of the others, ...) for every part, in order of use. The layers'
// lists must have the same length.
template <typename Fn, typename First, typename... Others>
void for_each_part(Fn&& fn, First& first, Others&... others) {
  fn(first.norm1, others.norm1...);
  for (size_t i = 0; i < first.qkv.size(); ++i) fn(first.qkv[i], others.qkv[i]...);
  fn(first.q_norm, others.q_norm...);
  fn(first.k_norm, others.k_norm...);
  fn(first.gates, others.gates...);
  fn(first.attention_out, others.attention_out...);
  fn(first.post_norm1, others.post_norm1...);
  fn(first.norm2, others.norm2...);
  for (size_t i = 0; i < first.mlp_in.size(); ++i) fn(first.mlp_in[i], others.mlp_in[i]...);
  fn(first.mlp_down, others.mlp_down...);
  fn(first.post_norm2, others.post_norm2...);
}

// A function of several types of parts: Overloaded{[](Norm&) {...}, [](Linear&) {...}}.
template <typename... Fns>
struct Overloaded : Fns... {
  using Fns::operator()...;
};
template <typename... Fns>
Overloaded(Fns...) -> Overloaded<Fns...>;

}  // namespace sepllm
