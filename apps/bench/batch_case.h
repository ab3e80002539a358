// A case that `sepllm bench batch` measures repeatedly: several sequences at some depth, which read a prompt
// and then decode together.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "apps/bench/speed_case.h"
#include "cache/kv_cache.h"
#include "engine/model.h"
#include "engine/sampler.h"
#include "tensor/context.h"

namespace sepllm {

// Sizes of a case; all of them for each sequence.
struct BatchShape {
  int64_t n_sequences = 1;
  int64_t depth = 0;      // tokens that the cache is filled with, as the policy would hold them
  int64_t n_prompt = 0;   // then so many are read, sequence by sequence in chunks
  int64_t n_decoded = 1;  // then so many are decoded, one of each sequence in a step
};

class BatchCase {
 public:
  // Fills the caches. Error as for KvCache::fill, and (kOutOfRange) for learned positions that end.
  BatchCase(const Model& model, const PolicySettings& settings, const MadeUpTokens& tokens,
            const BatchShape& shape, const Context& ctx);

  struct Seconds {
    double prompt = 0, decode = 0;
  };
  // Goes back to the depth and runs the case.
  Seconds run();

  const BatchShape& shape() const { return shape_; }
  // Of the last run, over all sequences: the mean number of keys that a query saw, and the bytes of keys and
  // values held at its end.
  double mean_keys() const { return caches_.front().stats().mean_keys(); }
  int64_t kv_bytes() const;
  // Bytes that a decoding step reads: the weights once, and all sequences' keys and values.
  double step_bytes() const;

 private:
  void read_prompt(KvCache* cache);
  void decode_step(int64_t t);

  const Model& model_;
  int64_t chunk_;
  const Context& ctx_;
  BatchShape shape_;
  std::vector<KvCache> caches_;
  std::vector<std::string> marks_;
  std::vector<int32_t> ids_;  // [n_prompt + n_decoded], the same for all sequences
  std::vector<float> logits_;
  Sampler sampler_;
};

}  // namespace sepllm
