// Memory of a cache: what a chunk needs is there before it begins, or nothing has changed; and copies.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/rng.h"
#include "cache/cache_test_support.h"
#include "cache/kv_cache.h"
#include "tests/support/allocations.h"

namespace sepllm {
namespace {

constexpr int64_t kVocab = 16;

TokenSet some_separators() {
  TokenSet set(kVocab);
  for (const int32_t id : {1, 5, 11}) set.insert(id);
  return set;
}

// A token whose rows hold its position, in every byte.
void feed(KvCache& cache, std::span<const int32_t> tokens) {
  const auto n = std::ssize(tokens);
  std::vector<void*> k(n), v(n);
  std::vector<int64_t> strides(n), scale_strides(n);
  std::vector<float*> ks(n), vs(n);
  cache.begin_chunk(tokens);
  for (int64_t l = 0; l < cache.layout().n_layers; ++l) {
    cache.chunk_rows(l, k.data(), v.data(), strides.data());
    const bool scales = cache.layout().type == DType::kI8;
    if (scales) cache.chunk_scales(l, ks.data(), vs.data(), scale_strides.data());
    for (int64_t t = 0; t < n; ++t) {
      for (int64_t head = 0; head < cache.layout().n_kv_heads; ++head) {
        const int64_t at = head * strides[t] * dtype_size(cache.layout().type);
        std::memset(static_cast<char*>(k[t]) + at, static_cast<int>((cache.length() + t + l) % 100),
                    cache.row_bytes());
        std::memset(static_cast<char*>(v[t]) + at, static_cast<int>((cache.length() + t + l) % 90),
                    cache.row_bytes());
        if (scales) ks[t][head * scale_strides[t]] = vs[t][head * scale_strides[t]] = static_cast<float>(t);
      }
    }
    cache.rows_written(l);
  }
  for (const Move& m : cache.end_chunk()) {
    for (int64_t l = 0; l < cache.layout().n_layers; ++l) {
      for (int64_t head = 0; head < cache.layout().n_kv_heads; ++head) cache.copy_row(l, head, m.from, m.to);
    }
  }
}

std::string bytes_of(const KvCache& cache) {
  std::string out;
  StringWriter writer(&out);
  cache.save(writer);
  return out;
}

std::vector<int32_t> random_chunk(const Rng& rng, uint64_t draw, const KvCache& cache) {
  const int64_t n = std::min(cache.max_chunk(), 1 + static_cast<int64_t>(rng.bits(draw) % 9));
  std::vector<int32_t> tokens;
  for (int64_t t = 0; t < n; ++t)
    tokens.push_back(static_cast<int32_t>(rng.bits(draw + 1 + static_cast<uint64_t>(t)) % kVocab));
  return tokens;
}

// Every chunk is tried first without memory for the first, the second, ... of all that it takes. After some
// of the failures another chunk is tried in between.
TEST(KvCacheRoom, AChunkWithoutMemoryChangesNothing) {
  if (!test::NoMemory::works()) GTEST_SKIP() << "the sanitizers have an allocator of their own";
  for (const auto& [name, policy] : test::small_policies()) {
    for (const DType type : {DType::kF32, DType::kI8}) {
      const KvLayout layout{3, 2, 8, type};
      KvCache calm(layout, policy, some_separators()), shaken(layout, policy, some_separators());
      const Rng rng(7);
      int64_t failures = 0;
      for (uint64_t draw = 0; calm.length() < 300; draw += 20) {
        const std::vector<int32_t> tokens = random_chunk(rng, draw, calm);
        const std::string before = bytes_of(shaken);
        for (int64_t after = 0;; ++after) {
          bool failed = false;
          try {
            const test::NoMemory none(after, 1, test::NoMemory::Of::kAll);
            shaken.make_room(tokens);
          } catch (const Error& e) {
            failed = true;
            EXPECT_EQ(e.code(), ErrorCode::kOutOfRange);
          }
          if (!failed) break;
          ++failures;
          ASSERT_TRUE(bytes_of(shaken) == before) << name;
          ASSERT_EQ(shaken.stats().reserved_bytes, calm.stats().reserved_bytes) << name;
          if (after % 3 == 1) shaken.make_room(std::span(tokens).first(1));
        }
        feed(calm, tokens);
        feed(shaken, tokens);
        ASSERT_TRUE(bytes_of(shaken) == bytes_of(calm)) << name << " at " << calm.length();
        ASSERT_EQ(shaken.stats().reserved_bytes, calm.stats().reserved_bytes) << name;
      }
      EXPECT_GE(failures, 20) << name;
    }
  }
}

TEST(KvCacheRoom, ReservedMemoryIsThereOrNothingHasChanged) {
  if (!test::NoMemory::works()) GTEST_SKIP() << "the sanitizers have an allocator of their own";
  for (const auto& [name, policy] : test::small_policies()) {
    KvCache calm({3, 2, 8, DType::kI8}, policy, some_separators());
    KvCache shaken({3, 2, 8, DType::kI8}, policy, some_separators());
    const Rng rng(7);
    for (uint64_t draw = 0; draw < 400; draw += 20) {
      const std::vector<int32_t> tokens = random_chunk(rng, draw, calm);
      const std::string before = bytes_of(shaken);
      try {
        const test::NoMemory none(static_cast<int64_t>(draw / 20), 1, test::NoMemory::Of::kAll);
        shaken.reserve(200);
      } catch (const Error& e) {
        EXPECT_EQ(e.code(), ErrorCode::kOutOfRange);
      }
      ASSERT_TRUE(bytes_of(shaken) == before) << name;
      feed(calm, tokens);
      feed(shaken, tokens);
      ASSERT_TRUE(bytes_of(shaken) == bytes_of(calm)) << name << " at " << calm.length();
    }
  }
}

// With room for it, a chunk takes no memory until its end.
TEST(KvCacheRoom, AChunkWithRoomNeedsNoMoreMemory) {
  if (!test::NoMemory::works()) GTEST_SKIP() << "the sanitizers have an allocator of their own";
  for (const auto& [name, policy] : test::small_policies()) {
    KvCache cache({2, 2, 8, DType::kF32}, policy, some_separators());
    const Rng rng(8);
    for (uint64_t draw = 0; cache.length() < 300; draw += 20) {
      const std::vector<int32_t> tokens = random_chunk(rng, draw, cache);
      cache.make_room(tokens);
      const test::NoMemory none;
      const int64_t before = test::allocation_count();
      cache.begin_chunk(tokens);
      for (int64_t l = 0; l < 2; ++l) {
        cache.spans(l);
        cache.rows_written(l);
      }
      cache.end_chunk();
      ASSERT_EQ(test::allocation_count(), before) << name << " at " << cache.length();
    }
  }
}

TEST(KvCacheRoom, ACopyIsAsGoodAsTheOriginalAndItsOwn) {
  for (const auto& [name, policy] : test::small_policies()) {
    for (const DType type : {DType::kF32, DType::kF16, DType::kBF16, DType::kI8}) {
      KvCache cache({3, 2, 8, type}, policy, some_separators());
      const Rng rng(9);
      uint64_t draw = 0;
      for (int64_t end = 0; end < 120; end += 13) {
        for (; cache.length() < end; draw += 20) feed(cache, random_chunk(rng, draw, cache));
        KvCache copy = cache.copy(), other = cache.copy();
        ASSERT_TRUE(bytes_of(copy) == bytes_of(cache)) << name;
        ASSERT_EQ(copy.stats().reserved_bytes, cache.stats().reserved_bytes);
        for (int step = 0; step < 8; ++step, draw += 20) {
          const std::vector<int32_t> tokens = random_chunk(rng, draw, cache);
          feed(cache, tokens);
          feed(copy, tokens);
          ASSERT_EQ(copy.stats().json(), cache.stats().json());
          ASSERT_TRUE(bytes_of(copy) == bytes_of(cache)) << name << " " << dtype_name(type);
          feed(other, random_chunk(rng, draw + 7, other));  // another text: neither of the two has it
        }
      }
    }
  }
}

// A cache that keeps everything goes back to any place: to the state that it had there, statistics included.
TEST(KvCacheRoom, ACacheThatDropsNothingIsCut) {
  for (const auto& [name, policy] : test::small_policies()) {
    for (const DType type : {DType::kF32, DType::kI8}) {
      KvCache cache({3, 2, 8, type}, policy, some_separators());
      EXPECT_EQ(cache.drops_nothing(), name == "full" || policy.has_blocks()) << name;
      if (!cache.drops_nothing()) continue;
      EXPECT_FALSE(KvCache({3, 2, 8, type, {0, 5, 0}}, policy, some_separators()).drops_nothing());
      const Rng rng(9);
      std::vector<std::string> states = {bytes_of(cache)};
      std::vector<int64_t> lengths = {0};
      for (uint64_t draw = 0; cache.length() < 200; draw += 20) {
        feed(cache, random_chunk(rng, draw, cache));
        states.push_back(bytes_of(cache));
        lengths.push_back(cache.length());
      }
      for (size_t k = states.size(); k-- > 0; k -= std::min<size_t>(k, 2)) {
        KvCache copy = cache.copy_first(lengths[k]);
        EXPECT_TRUE(bytes_of(copy) == states[k]) << lengths[k];
        EXPECT_EQ(copy.stats().reserved_bytes, lengths[k] * 3 * copy.slot_bytes());
        cache.cut(lengths[k]);
        ASSERT_TRUE(bytes_of(cache) == states[k]) << lengths[k];
        // Both continue in the same way.
        feed(copy, random_chunk(rng, 20 * k, copy));
        feed(cache, random_chunk(rng, 20 * k, cache));
        EXPECT_TRUE(bytes_of(copy) == bytes_of(cache)) << lengths[k];
      }
    }
  }
}

}  // namespace
}  // namespace sepllm
