// Reads tests/golden and runs a decoder over what it contains.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "attention/policy.h"
#include "base/json.h"
#include "base/token_set.h"
#include "cache/kv_cache.h"
#include "checkpoint/safetensors.h"
#include "model/decoder.h"
#include "tensor/context.h"

namespace sepllm::test {

std::string golden_folder();
std::string golden_model(const std::string& name);  // the folder of a tiny checkpoint
std::vector<std::string> golden_models();           // names, sorted
// The names, sorted and without their endings, of the files in a folder of golden files.
std::vector<std::string> golden_cases(const std::string& folder);
Json read_json(const std::string& path);

// A file of named int32 and float32 arrays.
class GoldenFile {
 public:
  explicit GoldenFile(const std::string& path) : file_(path) {}
  bool has(const std::string& name) const { return file_.entries().count(name) != 0; }
  std::span<const int32_t> ints(const std::string& name) const;
  std::span<const float> floats(const std::string& name) const;
  // Part t of a list of lists: the elements of NAME between offsets[t] and offsets[t + 1].
  std::vector<int64_t> list(const std::string& name, const std::string& offsets, size_t t) const;

 private:
  SafetensorsFile file_;
};

// Settings in the golden files have the program's option names. "seps": "unbounded" starts from
// `unbounded_start` separators.
Policy golden_policy(const Json& settings, int64_t unbounded_start = 0);
TokenSet golden_separators(const Json& ids, int64_t vocab_size);

// Logits of all rows, one after the other.
using Logits = std::vector<float>;
float max_difference(std::span<const float> a, std::span<const float> b);

// A decoder with everything that it needs to run.
class Runner {
 public:
  explicit Runner(const std::string& folder, int n_threads = 1, const WeightOptions& options = {})
      : decoder_(Decoder::load(folder, options)), pool_(n_threads), ctx_{.pool = pool_, .arena = arena_} {}

  // From now on products with block types are exact, instead of with activations rounded to 8 bits.
  void set_exact() { ctx_.block_products = BlockProducts::kExact; }

  const Decoder& decoder() const { return decoder_; }
  int64_t vocab_size() const { return decoder_.config().vocab_size; }
  // The whole sequence at once, each layer under its own pattern.
  Logits whole(std::span<const int32_t> tokens, const Policy& policy, const TokenSet& separators);
  // Through a cache, in chunks of at most `chunk` tokens (and at most what the cache takes at once).
  Logits chunked(std::span<const int32_t> tokens, KvCache& cache, int64_t chunk);
  // Logits of one forward pass over a batch.
  Logits batch(std::span<const Sequence> sequences);
  std::vector<Pattern> patterns(std::span<const int32_t> tokens, const Policy& policy,
                                const TokenSet& separators) const;
  KvCache cache(const Policy& policy, const TokenSet& separators, DType type = DType::kF32) const {
    return {decoder_.kv_layout(type), policy, separators};
  }

 private:
  Decoder decoder_;
  ThreadPool pool_;
  Arena arena_;
  Context ctx_;
};

}  // namespace sepllm::test
