#include "base/token_set.h"

#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/check.h"

namespace sepllm {

void TokenSet::insert(int32_t id) {
  SEPLLM_CHECK(id >= 0 && id < vocab_size_);
  bits_[static_cast<size_t>(id) / 64] |= uint64_t{1} << (id % 64);
}

int64_t TokenSet::size() const {
  int64_t n = 0;
  for (const uint64_t word : bits_) n += std::popcount(word);
  return n;
}

std::vector<int32_t> TokenSet::ids() const {
  std::vector<int32_t> out;
  for (int64_t id = 0; id < vocab_size_; ++id) {
    if (contains(static_cast<int32_t>(id))) out.push_back(static_cast<int32_t>(id));
  }
  return out;
}

}  // namespace sepllm
