#include "model/stored_names.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "base/log.h"
#include "kernels/formats/rows.h"

namespace sepllm {
namespace {

// Whether both tensors hold the same numbers, whatever their float types are (for blocks: the same bytes).
bool same_values(const StoredTensor& a, const StoredTensor& b) {
  if (a.shape != b.shape) return false;
  if (a.dtype == b.dtype && std::memcmp(a.data, b.data, static_cast<size_t>(a.bytes)) == 0) return true;
  if (!a.type || !b.type || is_block_type(*a.type) || is_block_type(*b.type)) return false;
  constexpr int64_t kPiece = 4096;
  std::vector<float> x(kPiece), y(kPiece);
  const int64_t n = a.bytes / dtype_size(*a.type);
  for (int64_t from = 0; from < n; from += kPiece) {
    const int64_t count = std::min(kPiece, n - from);
    row_to_f32(*a.type, a.data + from * dtype_size(*a.type), count, x.data());
    row_to_f32(*b.type, b.data + from * dtype_size(*b.type), count, y.data());
    if (!std::equal(x.begin(), x.begin() + count, y.begin())) return false;
  }
  return true;
}

// The prefix is recognised by the token embedding or, if that is not stored, by the final norm.
std::string stored_prefix(const WeightStore& store, const ModelSpec& spec) {
  for (const std::string& name : {spec.names.token_embedding, spec.names.final_norm.weight()}) {
    if (store.has(spec.prefix + name)) return spec.prefix;
    for (const std::string& prefix : spec.other_prefixes) {
      if (store.has(prefix + name)) return prefix;
    }
    if (store.has(name)) return "";
  }
  return spec.prefix;
}

}  // namespace

StoredNames usual_names(const ModelSpec& spec) {
  return {.prefix = spec.prefix,
          .token_embedding = spec.prefix + spec.names.token_embedding,
          .head = spec.names.head,
          .tied = spec.config.tied_embeddings};
}

StoredNames stored_names(const WeightStore& store, const ModelSpec& spec) {
  StoredNames names = usual_names(spec);
  names.prefix = stored_prefix(store, spec);
  names.token_embedding = names.prefix + spec.names.token_embedding;
  const std::string& other = spec.names.head_alternative;
  if (!other.empty() && !store.has(names.head) && store.has(other)) names.head = other;

  const bool has_embedding = store.has(names.token_embedding), has_head = store.has(names.head);
  if (has_embedding && has_head && names.tied) {
    names.tied = same_values(store.tensor(names.token_embedding), store.tensor(names.head));
    if (!names.tied) {
      log_warning(
          fmt::format("{}: the head is tied to the token embedding by config.json, but {} and {} "
                      "differ: both are used, as they are stored",
                      store.folder(), names.token_embedding, names.head));
    }
  } else if (has_embedding != has_head) {
    const std::string& there = has_embedding ? names.token_embedding : names.head;
    const std::string& missing = has_embedding ? names.head : names.token_embedding;
    if (!names.tied) {
      log_warning(
          fmt::format("{}: {} is missing, and config.json does not tie the head to the token embedding: {} "
                      "is used as both",
                      store.folder(), missing, there));
    }
    names.tied = true;
    names.token_embedding = names.head = std::string(there);
  }
  return names;
}

ModelSpec read_checkpoint_spec(const std::string& folder) {
  ModelSpec spec = read_model_spec(folder);
  spec.config.tied_embeddings = stored_names(WeightStore::open(folder), spec).tied;
  return spec;
}

}  // namespace sepllm
