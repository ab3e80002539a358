// Memory of a cache: what a chunk needs is there before it begins, or nothing has changed; and copies.
#include <gtest/gtest.h>

#include <cstring>
#include <iterator>

#include "base/error.h"
#include "base/rng.h"
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

std::vector<std::pair<std::string, Policy>> small_policies() {
  std::vector<std::pair<std::string, Policy>> out;
  const auto add = [&](const std::string& name, PolicyKind kind) -> Policy& {
    out.emplace_back(name, Policy{});
    Policy& p = out.back().second;
    p.kind = kind;
    p.init = 3;
    p.window = 7;
    p.seps = 5;
    p.capacity = 24;
    p.interval = 3;
    if (p.streaming()) p.positions = PositionMode::kCache;
    return p;
  };
  add("full", PolicyKind::kFull);
  add("sep", PolicyKind::kSep);
  add("fixed", PolicyKind::kFixed);
  add("sink", PolicyKind::kSink);
  add("layered", PolicyKind::kSep).layer_window = {{0, kUnlimited}, {1, 2}};
  add("sep-stream", PolicyKind::kSepStream);
  add("replace", PolicyKind::kSepStream).sep_replace = true;
  add("unbounded", PolicyKind::kSepStream).seps_unbounded = true;
  add("sink-stream", PolicyKind::kSinkStream);
  return out;
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

// Every chunk is tried first without memory for one of the buffers that it needs.
TEST(KvCacheRoom, AChunkWithoutMemoryChangesNothing) {
  if (!test::NoMemory::works()) GTEST_SKIP() << "the sanitizers have an allocator of their own";
  for (const auto& [name, policy] : small_policies()) {
    for (const DType type : {DType::kF32, DType::kI8}) {
      const KvLayout layout{3, 2, 8, type};
      KvCache calm(layout, policy, some_separators()), shaken(layout, policy, some_separators());
      const Rng rng(7);
      int64_t failures = 0;
      std::vector<int32_t> tokens;
      for (uint64_t draw = 0; calm.length() < 300; draw += 20) {
        const int64_t n = std::min(calm.max_chunk(), 1 + static_cast<int64_t>(rng.bits(draw) % 9));
        tokens.clear();
        for (int64_t t = 0; t < n; ++t)
          tokens.push_back(static_cast<int32_t>(rng.bits(draw + 1 + static_cast<uint64_t>(t)) % kVocab));
        const std::string before = bytes_of(shaken);
        bool failed = false;
        try {
          const test::NoMemory none(static_cast<int64_t>(rng.bits(draw + 19) % 5), 1);
          shaken.make_room(tokens);
        } catch (const Error& e) {
          failed = true;
          EXPECT_EQ(e.code(), ErrorCode::kOutOfRange);
        }
        failures += failed ? 1 : 0;
        ASSERT_TRUE(bytes_of(shaken) == before) << name;
        if (failed && draw % 40 == 0) {  // something else may come instead
          const std::vector<int32_t> other = {tokens[0]};
          const test::NoMemory none(0, 0);
          shaken.make_room(other);
        }
        feed(calm, tokens);
        feed(shaken, tokens);
        ASSERT_TRUE(bytes_of(shaken) == bytes_of(calm)) << name << " at " << calm.length();
        ASSERT_EQ(shaken.stats().reserved_bytes, calm.stats().reserved_bytes) << name;
      }
      EXPECT_GE(failures, 2) << name;
    }
  }
}

// With room for it, a chunk takes no memory until its end.
TEST(KvCacheRoom, AChunkWithRoomNeedsNoMoreMemory) {
  if (!test::NoMemory::works()) GTEST_SKIP() << "the sanitizers have an allocator of their own";
  for (const auto& [name, policy] : small_policies()) {
    KvCache cache({2, 2, 8, DType::kF32}, policy, some_separators());
    const Rng rng(8);
    std::vector<int32_t> tokens;
    for (uint64_t draw = 0; cache.length() < 300; draw += 20) {
      const int64_t n = std::min(cache.max_chunk(), 1 + static_cast<int64_t>(rng.bits(draw) % 9));
      tokens.clear();
      for (int64_t t = 0; t < n; ++t)
        tokens.push_back(static_cast<int32_t>(rng.bits(draw + 1 + static_cast<uint64_t>(t)) % kVocab));
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
  for (const auto& [name, policy] : small_policies()) {
    for (const DType type : {DType::kF32, DType::kF16, DType::kBF16, DType::kI8}) {
      KvCache cache({3, 2, 8, type}, policy, some_separators());
      const Rng rng(9);
      std::vector<int32_t> tokens;
      const auto draw_tokens = [&](uint64_t draw, const KvCache& c) {
        const int64_t n = std::min(c.max_chunk(), 1 + static_cast<int64_t>(rng.bits(draw) % 9));
        tokens.clear();
        for (int64_t t = 0; t < n; ++t)
          tokens.push_back(static_cast<int32_t>(rng.bits(draw + 1 + static_cast<uint64_t>(t)) % kVocab));
      };
      uint64_t draw = 0;
      for (int64_t end = 0; end < 120; end += 13) {
        for (; cache.length() < end; draw += 20) {
          draw_tokens(draw, cache);
          feed(cache, tokens);
        }
        KvCache copy = cache.copy(), other = cache.copy();
        ASSERT_TRUE(bytes_of(copy) == bytes_of(cache)) << name;
        ASSERT_EQ(copy.stats().reserved_bytes, cache.stats().reserved_bytes);
        for (int step = 0; step < 8; ++step, draw += 20) {
          draw_tokens(draw, cache);
          feed(cache, tokens);
          feed(copy, tokens);
          ASSERT_TRUE(bytes_of(copy) == bytes_of(cache)) << name << " " << dtype_name(type);
          draw_tokens(draw + 7, other);  // another text: neither of the two has it
          feed(other, tokens);
        }
      }
    }
  }
}

}  // namespace
}  // namespace sepllm
