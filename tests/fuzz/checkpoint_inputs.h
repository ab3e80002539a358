// Used by the fuzz entries of checkpoint files and by the test that replays their corpora. An Error is a
// valid answer; anything else that escapes is a finding.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "checkpoint/gguf.h"
#include "checkpoint/safetensors.h"
#include "checkpoint/weight_store.h"
#include "model/config.h"
#include "model/gguf/spec.h"
#include "model/stored_names.h"
#include "model/weights.h"
#include "text/formats/gguf_tokenizer.h"

namespace sepllm::test {

// True if the bytes are a valid file; then all its tensor data has been read.
inline bool accepts_safetensors(std::string_view bytes) {
  try {
    const SafetensorsContent content = parse_safetensors(bytes, "fuzz.safetensors");
    uint64_t sum = 0;
    for (const auto& [name, entry] : content.entries) {
      for (int64_t i = 0; i < entry.bytes; ++i) sum += static_cast<unsigned char>(entry.data[i]);
    }
    return sum <= 255 * bytes.size();  // no byte belongs to two tensors
  } catch (const Error&) {
    return false;
  }
}

// Bytes of all numbers and texts of a value, arrays within arrays included.
inline uint64_t bytes_of(const GgufValue& value) {
  if (value.type != GgufType::kArray) return value.bytes.size();
  uint64_t total = 0;
  for_elements(value, [&](const GgufValue& element) { total += bytes_of(element); });
  return total;
}

// True if the bytes are a valid file; then all its metadata and tensor data have been read.
inline bool accepts_gguf(std::string_view bytes) {
  try {
    const GgufContent content = parse_gguf(bytes, "fuzz.gguf");
    uint64_t sum = 0;
    for (const auto& [name, entry] : content.entries) {
      for (int64_t i = 0; i < entry.bytes; ++i) sum += static_cast<unsigned char>(entry.data[i]);
    }
    uint64_t total = 0;
    for (const auto& [key, value] : content.metadata.values()) total += bytes_of(value);
    return sum <= 255 * bytes.size() && total <= bytes.size();
  } catch (const Error&) {
    return false;
  }
}

// The whole way from a GGUF file to a model: its metadata become a config, its tensors weights, its tokenizer
// tokenizes. True if all of it is valid.
inline bool accepts_gguf_model(std::string_view bytes) {
  try {
    WeightStore store = WeightStore::of_gguf(bytes, "fuzz.gguf");
    const GgufMetadata metadata = *store.gguf();
    const ModelSpec spec = read_gguf_spec(store);
    const StoredNames names = stored_names(store, spec);
    const ModelWeights weights = load_weights(std::move(store), spec, names, {.type = DType::kF32});
    if (has_gguf_tokenizer(metadata)) {
      const auto tokenizer = gguf_tokenizer(metadata, spec.config.vocab_size);
      tokenizer->decode(tokenizer->encode("A b, 12.\n<|end|>"));
    }
    return parameter_count(weights) > 0;
  } catch (const Error&) {
    return false;
  }
}

// True if the text is a config of a known family.
inline bool accepts_config(std::string_view text) {
  try {
    const ModelSpec spec = parse_model_spec(parse_json(text, "config.json"), "config.json");
    return spec.config.qkv_dim() > 0 && !spec.names.layers.empty();
  } catch (const Error&) {
    return false;
  }
}

}  // namespace sepllm::test
