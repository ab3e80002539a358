// Complete small models with random weights, in the Hugging Face form: for tests, and for a demonstration
// without a trained model.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "base/json.h"
#include "model/config.h"

namespace sepllm {

struct RandomModelOptions {
  std::string variant = "llama";  // one of random_model_variants()
  uint64_t seed = 1;
  int64_t hidden_size = 64;
  int64_t n_layers = 3;
  int64_t n_heads = 4;  // a power of two; grouped variants use half as many key/value heads
  int64_t max_positions = 512;
  DType dtype = DType::kF32;
  int n_shards = 1;                    // more than 1: model.safetensors.index.json and shards
  Json extra_config = Json::object();  // members that replace those of config.json or are added to them
};

// Variants of all families (model/families/family.h): "gpt_neox", "gpt_neox-sequential", "llama",
// "llama-tied" (tied, biases, llama3 rope), "gpt2", "falcon-7b", ...
std::vector<std::string> random_model_variants();

// config.json of a variant, with the vocabulary of write_byte_tokenizer().
Json random_model_config(const RandomModelOptions& options);

// Writes config.json, the weights, tokenizer.json and tokenizer_config.json into `folder` (created if it does
// not exist). The same options give the same bytes. Error (kIo), (kInvalidArgument) for an unknown variant or
// sizes that a config must not have.
void write_random_model(const std::string& folder, const RandomModelOptions& options);

// The byte-level tokenizer of random models: ids 0 to 255 are the bytes, then <|begin|> (BOS) and <|end|>.
constexpr int32_t kByteTokenizerBos = 256;
constexpr int32_t kByteTokenizerEos = 257;
constexpr int64_t kByteTokenizerVocab = 258;
void write_byte_tokenizer(const std::string& folder);

}  // namespace sepllm
