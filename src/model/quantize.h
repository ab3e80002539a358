// Writes a copy of a model's folder with its matrices in another type: `sepllm quantize`.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "base/dtype.h"
#include "base/json.h"
#include "base/thread_pool.h"

namespace sepllm {

struct QuantizeReport {
  int64_t n_tensors = 0;    // number of tensors written
  int64_t n_converted = 0;  // those that changed their type
  // those whose rows are not a multiple of a block, so that the last block ends in zeros
  int64_t n_padded = 0;
  int64_t bytes_before = 0;  // over all tensors
  int64_t bytes_after = 0;
};

// States in a config.json that the weights have this type: "torch_dtype", or "quantization_config" for
// blocks.
void set_weight_type(Json* config, DType type);

// Reads the HF folder `model` and writes the folder `out` (new or empty; completely or not at all):
// safetensors in the same shards, the matrices of the linears in `type`, the token embedding and the head in
// table_type(type), everything else unchanged, except that a head which a tied model stores needlessly is
// left out. Blocks are U8 tensors [n_out, row bytes], also where the floats were stored as [n_in, n_out], and
// config.json says so in "quantization_config". Tokenizer, generation and licence files are copied. One
// matrix at a time is in memory.
// `progress` (may be empty) gets the bytes read so far and those of all tensors; returning false stops the
// work. Error as for load_weights() and model/convert.h; (kInvalidArgument) for a model of blocks, an `out`
// with content, and if `progress` stopped it; (kIo).
QuantizeReport quantize_model(const std::string& model, DType type, const std::string& out, ThreadPool& pool,
                              const std::function<bool(int64_t done, int64_t total)>& progress = {});

}  // namespace sepllm
