#include "engine/fingerprint.h"

#include <algorithm>
#include <cstdint>
#include <string>

#include "base/bytes.h"
#include "kernels/formats/panels.h"
#include "model/config_fields.h"
#include "model/layer_parts.h"

namespace sepllm {
namespace {

constexpr int64_t kSamples = 16;       // of each weight
constexpr int64_t kSampleBytes = 256;  // at most this many

template <typename T>
void add(Hash64* hash, T value) {
  hash->add(&value, sizeof value);
}

// Adds some of `n` pieces of `bytes` bytes that lie `stride` bytes apart, spread evenly.
void add_samples(Hash64* hash, const void* data, int64_t n, int64_t bytes, int64_t stride) {
  const int64_t samples = std::min(n, kSamples);
  const int64_t size = std::min(bytes, kSampleBytes);
  for (int64_t k = 0; k < samples; ++k) {
    const int64_t piece = samples == 1 ? 0 : k * (n - 1) / (samples - 1);
    const int64_t offset = (bytes - size) * k / kSamples;
    hash->add(static_cast<const char*>(data) + piece * stride + offset, static_cast<uint64_t>(size));
  }
}

void add_weight(Hash64* hash, const Weight& w) {
  add(hash, static_cast<int64_t>(w.type));
  add(hash, w.n_out);
  add(hash, w.n_in);
  add(hash, static_cast<int64_t>(w.transposed));
  if (w.data == nullptr) return;
  if (is_block_type(w.type)) {
    const int64_t panel = panel_bytes(w.type, w.n_in);
    return add_samples(hash, w.data, n_panels(w.n_out), panel, panel);
  }
  const int64_t rows = w.transposed ? w.n_in : w.n_out;
  const int64_t columns = w.transposed ? w.n_out : w.n_in;
  add_samples(hash, w.data, rows, columns * dtype_size(w.type), w.row_stride * dtype_size(w.type));
}

void add_vector(Hash64* hash, const float* data, int64_t n) {
  add(hash, static_cast<int64_t>(data != nullptr));
  if (data != nullptr) hash->add(data, static_cast<uint64_t>(n) * sizeof(float));
}

void add_linear(Hash64* hash, const Linear& linear) {
  add_weight(hash, linear.weight);
  add_vector(hash, linear.bias, linear.weight.n_out);
}

}  // namespace

std::string model_fingerprint(const Decoder& decoder) {
  const ModelWeights& w = decoder.weights();
  Hash64 hash;
  add_hash(&hash, decoder.config());
  const auto norm = [&hash](const Norm& n) {
    add_vector(&hash, n.weight, n.n);
    add_vector(&hash, n.bias, n.n);
  };
  const auto linear = [&hash](const Linear& l) { add_linear(&hash, l); };
  const auto no_norm = [](const Norm&) {};
  const auto no_linear = [](const Linear&) {};
  add_weight(&hash, w.token_embedding);
  add_weight(&hash, w.position_embedding);
  for (const LayerWeights& layer : w.layers) {
    // First the norms, then the matrices; that there is none is hashed of the first two norms only: states of
    // models without the other norms, or without gates, stay valid.
    const auto there = [&](const Norm& n) {
      if (n.weight != nullptr || &n == &layer.norm1 || &n == &layer.norm2) norm(n);
    };
    for_each_part(Overloaded{there, no_linear}, layer);
    const auto matrix = [&](const Linear& l) {
      if (l.weight.data != nullptr || &l != &layer.gates) linear(l);
    };
    for_each_part(Overloaded{no_norm, matrix}, layer);
  }
  norm(w.final_norm);
  linear(w.head);
  return hex64(hash.value());
}

std::string set_fingerprint(const TokenSet& set) {
  Hash64 hash;
  add(&hash, set.vocab_size());
  for (const int32_t id : set.ids()) add(&hash, id);
  return hex64(hash.value());
}

}  // namespace sepllm
