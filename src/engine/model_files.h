// Writes a whole model with its tokenizer as another kind of file.
#pragma once

#include <string>

#include "base/thread_pool.h"
#include "model/copy_model.h"

namespace sepllm {

// The model of a GGUF file as a Hugging Face folder (new or empty; completely or not at all), which this
// program and transformers load. Error as for copy_model_to_folder().
QuantizeReport write_folder_of(const std::string& model, const CopyOptions& options, const std::string& out,
                               ThreadPool& pool);

// A model as a GGUF file, with the tokenizer of `tokenizer` (folder or file; empty: the model's own, if it
// has one). Error as for copy_model_to_gguf() and gguf_tokenizer_fields().
QuantizeReport write_gguf_of(const std::string& model, const CopyOptions& options,
                             const std::string& tokenizer, const std::string& out, ThreadPool& pool);

// Whether a file of this name is to be written in GGUF.
bool is_gguf_name(const std::string& path);

}  // namespace sepllm
