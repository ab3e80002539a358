// Brings a cache to the state that it would have at any depth of a stream, without running the model that
// far. The cache's own code makes the plan from the tokens; keys and values are made up.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <vector>

#include "base/check.h"
#include "base/rng.h"
#include "cache/kv_cache.h"

namespace sepllm {
namespace {

constexpr int64_t kPoolRows = 251;  // prime: neighbouring heads do not repeat in step

void write_element(DType type, float value, int64_t i, char* row) {
  switch (type) {
    case DType::kF16:
      reinterpret_cast<f16*>(row)[i] = to_f16(value);
      return;
    case DType::kBF16:
      reinterpret_cast<bf16*>(row)[i] = to_bf16(value);
      return;
    case DType::kI8:
      reinterpret_cast<int8_t*>(row)[i] = static_cast<int8_t>(value * 127.0F);
      return;
    default:
      reinterpret_cast<float*>(row)[i] = value;
  }
}

// Fills rows with numbers that are uniform in (-1, 1).
std::vector<char> make_pool(const KvLayout& layout, int64_t row_bytes, uint64_t seed) {
  const Rng rng(seed);
  std::vector<char> pool(static_cast<size_t>(kPoolRows * row_bytes));
  for (int64_t r = 0; r < kPoolRows; ++r) {
    for (int64_t i = 0; i < layout.head_dim; ++i) {
      const auto value =
          static_cast<float>(2 * rng.uniform(static_cast<uint64_t>(r * layout.head_dim + i)) - 1);
      write_element(layout.type, value, i, pool.data() + r * row_bytes);
    }
  }
  return pool;
}

}  // namespace

void KvCache::fill(int64_t depth, FunctionRef<int32_t(int64_t position)> token_at, uint64_t seed) {
  SEPLLM_CHECK(length_ == 0 && in_flight_ == 0 && depth >= 0);
  constexpr int64_t kChunk = 512;
  reserve(depth);
  std::vector<int32_t> tokens(kChunk);
  while (length_ < depth) {
    // The last chunk is only one token, because tokens that leave the window are dropped when the next chunk
    // begins.
    const int64_t n = std::min({kChunk, std::max<int64_t>(1, depth - 1 - length_), max_chunk()});
    for (int64_t t = 0; t < n; ++t) tokens[t] = token_at(length_ + t);
    begin_chunk({tokens.data(), static_cast<size_t>(n)});
    end_chunk();  // its moves would carry rows that are written below
  }
  stats_ = {};

  const std::vector<char> pool = make_pool(layout_, row_bytes_, seed);
  int64_t next = 0;
  const auto fill_rows = [&](const Part& p, int64_t used) {
    for (int64_t head = 0; head < layout_.n_kv_heads; ++head) {
      for (int64_t slot = 0; slot < used; ++slot) {
        for (const Buffer* rows : {&p.k, &p.v}) {
          std::memcpy(row(*rows, p, head, slot), pool.data() + next * row_bytes_,
                      static_cast<size_t>(row_bytes_));
          next = (next + 1) % kPoolRows;
        }
      }
      if (scale_bytes() == 0) continue;
      for (const Buffer* scales : {&p.k_scales, &p.v_scales})
        std::fill_n(scale(*scales, p, head, 0), used, 1.0F / 127.0F);
    }
  };
  // (Means of made-up keys are made up too, so that the first step does not read all keys.)
  const auto fill_means = [&](Layer& layer, int64_t n_blocks, int64_t means_of_block) {
    const Rng rng(seed + 1);
    const int64_t n = n_blocks * means_of_block * layout_.n_kv_heads * layout_.head_dim;
    for (int64_t i = 0; i < n; ++i)
      layer.means.as<float>()[i] = static_cast<float>(2 * rng.uniform(static_cast<uint64_t>(i)) - 1);
    layer.n_means = n_blocks;
  };
  for (const Group& g : groups_) {
    for (const int64_t l : g.layers) {
      fill_rows(part(l, false), std::ssize(g.compact_positions));
      fill_rows(part(l, true), g.ring_capacity);  // wherever the ring begins
      fill_means(layers_[l], n_complete_blocks(l), g.rule.blocks.means_of_block());
    }
  }
}

}  // namespace sepllm
