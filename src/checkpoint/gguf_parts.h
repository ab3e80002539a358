// A model in GGUF that was split into several files (llama.cpp's gguf-split): NAME-00001-of-00003.gguf and so
// on. Each part is a whole file of its own with the keys split.no (from 0), split.count and
// split.tensors.count (of all parts); the first one has the model's metadata.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "checkpoint/gguf_metadata.h"

namespace sepllm {

// How many files the model has that `first`, the metadata of the file that was given, belongs to; 1 where it
// was not split. Error for a part other than the first (naming that), or a file whose name does not say which
// part it is.
int64_t count_gguf_parts(const GgufMetadata& first);

// The path of part `index` (from 1) of the model whose first part is `first`.
std::string gguf_part_path(const std::string& first, int64_t index, int64_t count);

// Error (kBadFile) unless this is the part `index` (from 1) of `count`.
void check_gguf_part(const GgufMetadata& part, int64_t index, int64_t count);

// Error (kBadFile) unless all parts together have as many tensors as the first one says.
void check_gguf_tensor_count(const GgufMetadata& first, int64_t n_tensors);

}  // namespace sepllm
