// Writes a whole model in another kind of file than its own: a GGUF file as a Hugging Face folder, and any
// model as a GGUF file.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "base/dtype.h"
#include "base/thread_pool.h"
#include "checkpoint/gguf_writer.h"
#include "model/quantize.h"

namespace sepllm {

struct CopyOptions {
  // The type of the linears' matrices; the token embedding and the head get table_type() of it. Nullopt: as
  // stored, where the target can hold that; blocks that a folder cannot hold become f32.
  std::optional<DType> type{};
  // As for quantize_model().
  std::function<bool(int64_t done, int64_t total)> progress{};
};

// Writes config.json and model.safetensors into `folder`, which exists. (The tokenizer is the caller's.) One
// matrix at a time is in memory. Error as for quantize_model().
QuantizeReport copy_model_to_folder(const std::string& model, const CopyOptions& options,
                                    const std::string& folder, ThreadPool& pool);

// Writes the GGUF file `out`, completely or not at all, with `fields` (of the tokenizer) in addition to the
// model's own metadata. Norms, biases and positions are f32, as llama.cpp needs them; matrices whose rows are
// not whole blocks of their type get f16. Error as above, and (kUnsupported) for a model that no architecture
// of GGUF describes.
QuantizeReport copy_model_to_gguf(const std::string& model, const CopyOptions& options,
                                  const GgufFields& fields, const std::string& out, ThreadPool& pool);

}  // namespace sepllm
