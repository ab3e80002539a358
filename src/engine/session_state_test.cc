// States: a session that was saved and restored continues as if nothing had happened, bit for bit.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "engine/session_test_support.h"

namespace sepllm {
namespace {

using SessionState = test::SessionStateTest;

std::string state_of(const Session& session) {
  std::string bytes;
  StringWriter out(&bytes);
  session.cache().save(out);
  return bytes;
}

void restore_cache(Session& session, const std::string& bytes) {
  ByteReader in(bytes, "state", "cache");
  session.cache().restore(in, 9);
}

constexpr DType kKvTypes[] = {DType::kF32, DType::kF16, DType::kBF16, DType::kI8};

// After a prompt in chunks, every token comes separately. Saved after each of the first 40 and at later ones.
TEST_F(SessionState, GoesOnWithTheSameBitsFromAnyToken) {
  for (auto& [name, settings] : all_settings()) {
    for (const DType kv : kKvTypes) {
      settings.kv = kv;
      for (const int64_t prompt : {1, 31}) {
        Session unbroken(*model_, settings, ctx_);
        std::vector<std::pair<int64_t, std::string>> states;
        std::vector<std::vector<float>> logits(ids_.size() + 1);
        const Rng rng(7);
        for (int64_t t = prompt; t <= 140; ++t) {
          logits[static_cast<size_t>(t)] = advance_to(unbroken, t);
          if (t < prompt + 40 || rng.bits(static_cast<uint64_t>(t)) % 8 == 0)
            states.emplace_back(t, state_of(unbroken));
        }
        for (const auto& [at, state] : states) {
          Session again(*model_, settings, other_ctx_);
          if (at % 3 == 0) advance_to(again, 25);  // what it held before is discarded
          restore_cache(again, state);
          ASSERT_EQ(again.cache().length(), at);
          ASSERT_TRUE(state_of(again) == state) << name << " at " << at;
          for (int64_t t = at + 1; t <= std::min<int64_t>(at + 17, 140); ++t) {
            ASSERT_TRUE(advance_to(again, t) == logits[static_cast<size_t>(t)])
                << name << " " << dtype_name(kv) << " saved at " << at << ", differs at " << t;
          }
        }
      }
    }
  }
}

// The chunks of a long text end where they would have ended.
TEST_F(SessionState, ChunksGoOnWhereTheyWere) {
  for (auto& [name, settings] : all_settings()) {
    Session unbroken(*model_, settings, ctx_), first(*model_, settings, ctx_);
    const std::vector<float> expected = advance_to(unbroken, 390);
    std::vector<int64_t> ends;
    Session(*model_, settings, ctx_).feed(std::span(ids_).first(390), [&](int64_t at, const Matrix& hidden) {
      ends.push_back(at + hidden.n_rows);
      return true;
    });
    advance_to(first, ends[ends.size() / 2]);
    const std::string path = folder_.file("a.state");
    first.save(path, {{"at", 5}});
    Session second(*model_, settings, other_ctx_);
    EXPECT_EQ(second.restore(path), Json({{"at", 5}}));
    EXPECT_TRUE(advance_to(second, 390) == expected) << name;
    const KvStats a = unbroken.cache().stats(), b = second.cache().stats();
    EXPECT_EQ(a.keys, b.keys);
    EXPECT_EQ(a.peak_bytes, b.peak_bytes);
    EXPECT_EQ(a.full_bytes, b.full_bytes);
  }
}

std::string refusal(Session& session, const std::string& path) {
  try {
    session.restore(path);
  } catch (const Error& e) {
    return e.what();
  }
  return "accepted";
}

TEST_F(SessionState, OtherModelsAndSettingsAreRefused) {
  const auto settings = [&](const std::string& name) {
    for (const auto& [known, s] : all_settings()) {
      if (known == name) return s;
    }
    return PolicySettings{};
  };
  Session saved(*model_, settings("sep-stream"), ctx_);
  advance_to(saved, 50);
  const std::string path = folder_.file("a.state");
  saved.save(path);
  const auto refused = [&](const Model& model, const PolicySettings& s, const std::string& part) {
    Session other(model, s, ctx_);
    other.advance(std::span(ids_).first(3));
    const std::string what = refusal(other, path);
    EXPECT_NE(what.find("the state was saved with another " + part), std::string::npos) << what;
    EXPECT_EQ(other.cache().length(), 3);
  };
  PolicySettings s = settings("sep-stream");
  s.kv = DType::kF16;
  refused(*model_, s, "kv (expected f32, got f16)");
  s = settings("sep-stream");
  s.policy.window = 6;
  refused(*model_, s, "window (expected 7, got 6)");
  refused(*model_, settings("replace"), "sep-replace");
  refused(*model_, settings("original"), "positions");
  refused(*model_, settings("sink-stream"), "policy (expected sep-stream, got sink-stream)");
  s = settings("sep-stream");
  s.separators = "ids:97";
  refused(*model_, s, "separators");
  s = settings("sep-stream");
  s.prefill_chunk = 10;
  refused(*model_, s, "prefill-chunk");

  const test::TemporaryFolder folder;
  write_random_model(folder.path(), {.variant = "llama", .seed = 4, .hidden_size = 32, .n_layers = 2});
  refused(load_model(folder.path(), ""), settings("sep-stream"), "model: fingerprint");
  EXPECT_EQ(refusal(saved, path), "accepted");
}

// States of the first version had no version number, and did not say how much room there was.
TEST_F(SessionState, StatesOfTheFirstVersionGoOnAndThoseOfALaterOneAreRefused) {
  for (auto& [name, settings] : all_settings()) {
    Session unbroken(*model_, settings, ctx_), saved(*model_, settings, ctx_);
    advance_to(saved, 40);
    advance_to(unbroken, 40);
    const std::string path = folder_.file("a.state");
    saved.save(path);
    test::rewrite_state(
        path, [](Json& header) { EXPECT_EQ(header.erase("version") + header.erase("capacities"), 2U); });
    Session second(*model_, settings, other_ctx_);
    second.restore(path);
    EXPECT_TRUE(advance_to(second, 60) == advance_to(unbroken, 60)) << name;
    test::rewrite_state(path, [](Json& header) { header["version"] = 2; });
    EXPECT_NE(refusal(second, path).find("a state of a newer version of sepllm (expected version 1, got 2)"),
              std::string::npos);
    EXPECT_EQ(second.cache().length(), 60);
  }
}

// The restored cache has the same room, so that it grows later at the same points.
TEST_F(SessionState, RoomIsRestored) {
  for (auto& [name, settings] : all_settings()) {
    const std::string path = folder_.file("a.state");
    for (const int64_t at : {10, 27, 61, 95}) {
      Session unbroken(*model_, settings, ctx_), again(*model_, settings, other_ctx_);
      for (int64_t end = 9; end <= at; ++end) advance_to(unbroken, end);
      unbroken.save(path);
      again.restore(path);
      for (int64_t end = at; end < at + 40; ++end) {
        if (end > at) {
          ASSERT_TRUE(advance_to(again, end) == advance_to(unbroken, end));
        }
        ASSERT_EQ(again.cache().capacities(), unbroken.cache().capacities()) << name << " " << end;
        ASSERT_EQ(again.cache().stats().json(), unbroken.cache().stats().json()) << name << " " << end;
      }
    }
  }
}

// Changing or removing any byte of a small state is detected.
TEST_F(SessionState, DamagedFilesAreRefusedAtEveryByte) {
  PolicySettings settings;
  settings.policy.kind = PolicyKind::kSink;
  settings.policy.init = 1;
  settings.policy.window = 2;
  Session session(*model_, settings, ctx_);
  advance_to(session, 4);
  const std::string path = folder_.file("a.state");
  session.save(path);
  const std::string good = read_file(path);
  ASSERT_NO_THROW(parse_state(good, "s"));
  const auto refused = [](const std::string& bytes) {
    const std::vector<char> exact(bytes.begin(), bytes.end());
    try {
      parse_state({exact.data(), exact.size()}, "s");
    } catch (const Error& e) {
      return std::string_view(e.what()).find('\n') == std::string_view::npos;
    }
    return false;
  };
  for (size_t n = 0; n < good.size(); ++n) ASSERT_TRUE(refused(good.substr(0, n))) << "cut at " << n;
  EXPECT_TRUE(refused(good + '\0'));
  for (size_t k = 0; k < good.size(); ++k) {
    std::string bad = good;
    bad[k] = static_cast<char>(bad[k] ^ (1 << (k % 8)));
    ASSERT_TRUE(refused(bad)) << "byte " << k;
    bad[k] = static_cast<char>(~good[k]);
    ASSERT_TRUE(refused(bad)) << "byte " << k;
  }
}

// Without the protection of the checksum: whatever the bytes are, the result is an Error or a cache that
// works.
TEST_F(SessionState, CacheStatesAreReadWithCare) {
  for (auto& [name, settings] : all_settings()) {
    Session session(*model_, settings, ctx_);
    advance_to(session, 44);
    const std::string good = state_of(session);
    const size_t plan = std::min<size_t>(good.size(), 700);  // rows may hold anything
    int accepted = 0;
    for (size_t k = 0; k < plan; ++k) {
      for (const int change : {1, 0x80, 0xFF}) {
        std::string bad = good;
        bad[k] = static_cast<char>(bad[k] ^ change);
        Session other(*model_, settings, other_ctx_);
        try {
          restore_cache(other, bad);
        } catch (const Error&) {
          ASSERT_EQ(other.cache().length(), 0);
          continue;
        }
        ++accepted;
        try {
          other.advance(std::span(ids_).first(30));
        } catch (const Error&) {  // rows that are NaN
        }
      }
    }
    EXPECT_GT(accepted, 0);
    for (size_t n = 0; n < good.size(); n += n < plan ? 1 : 61) {
      Session other(*model_, settings, other_ctx_);
      EXPECT_THROW(restore_cache(other, good.substr(0, n)), Error) << name << " cut at " << n;
    }
    EXPECT_THROW(restore_cache(session, good + "x"), Error);
  }
}

// Marks are read from files too.
TEST_F(SessionState, MarksAreReadWithCare) {
  for (auto& [name, settings] : all_settings()) {
    Session session(*model_, settings, ctx_);
    session.keep_marks();
    advance_to(session, 20);
    std::string good;
    StringWriter out(&good);
    session.cache().save_mark(out);
    advance_to(session, 44);
    const std::string state = state_of(session);
    const auto rewind = [&](const std::string& mark) {
      Session other(*model_, settings, other_ctx_);
      restore_cache(other, state);
      ByteReader in(mark, "state", "mark");
      try {
        other.cache().rewind(in, 9);
      } catch (const Error&) {
        EXPECT_TRUE(state_of(other) == state) << name;
        return false;
      }
      try {
        other.advance(std::span(ids_).first(30));
      } catch (const Error&) {  // rows that are NaN
      }
      return true;
    };
    EXPECT_TRUE(rewind(good)) << name;
    const size_t plan = std::min<size_t>(good.size(), 400);
    for (size_t k = 0; k < plan; ++k) {
      std::string bad = good;
      bad[k] = static_cast<char>(bad[k] ^ (k % 2 == 0 ? 0x80 : 0xFF));
      rewind(bad);
    }
    for (size_t n = 0; n < good.size(); n += n < plan ? 3 : 61)
      EXPECT_FALSE(rewind(good.substr(0, n))) << name << " cut at " << n;
  }
}

TEST(MarksState, IsReadWithCare) {
  Marks marks({.interval = 4});
  marks.begin(0);
  marks.add({0, false, "begin"});
  for (const std::vector<int32_t>& chunk : {std::vector<int32_t>{1, 2, 3}, {4, 5, 6}, {7}, {8}})
    marks.append(chunk, chunk.size() == 3);
  marks.add({8, true, "state"});
  std::string good;
  StringWriter out(&good);
  marks.save(out, 100);
  const auto read = [](const std::string& bytes, int64_t length) {
    ByteReader in(bytes, "file", "marks");
    return Marks::read(in, {.interval = 4}, length);
  };
  const Marks again = read(good, 8);
  EXPECT_EQ(again.positions(), (std::vector<int64_t>{0, 8}));
  EXPECT_EQ(again.before(8)->state, "state");
  EXPECT_EQ(again.chunks(0, 8), marks.chunks(0, 8));
  EXPECT_EQ(again.whole_end(7), 6);
  std::string few;
  StringWriter out_few(&few);
  marks.save(out_few, 5);
  EXPECT_EQ(read(few, 8).positions(), std::vector<int64_t>{0});
  EXPECT_THROW(read(good, 7), Error);
  EXPECT_THROW(read(good, 9), Error);
  for (size_t n = 0; n < good.size(); ++n) EXPECT_THROW(read(good.substr(0, n), 8), Error);
  for (size_t k = 0; k < good.size(); ++k) {
    for (const int change : {1, 0x80, 0xFF}) {
      std::string bad = good;
      bad[k] = static_cast<char>(bad[k] ^ change);
      try {
        EXPECT_EQ(read(bad, 8).end(), 8);
      } catch (const Error&) {
      }
    }
  }
}

TEST_F(SessionState, OtherFilesAreNoStates) {
  Session session(*model_, PolicySettings{}, ctx_);
  EXPECT_NE(refusal(session, folder_.write("text", "Once upon a time")).find("not a state file"),
            std::string::npos);
  EXPECT_NE(refusal(session, folder_.write("empty", "")).find("not a state file"), std::string::npos);
  EXPECT_NE(refusal(session, folder_.file("none")).find("cannot open"), std::string::npos);
  std::string version = "SEPLLMST" + std::string(16, '\0');
  version[8] = 9;
  EXPECT_NE(refusal(session, folder_.write("version", version))
                .find("a state file of a newer version of sepllm (expected version 1, got 9)"),
            std::string::npos);
}

// Decodes on a cache that is filled to a depth which would take too long to reach by running.
TEST_F(SessionState, DecodesOnAFilledCache) {
  for (const auto& [name, policy_settings] : all_settings()) {
    for (const DType kv : kKvTypes) {
      PolicySettings settings = policy_settings;
      settings.kv = kv;
      Session session(*model_, settings, ctx_);
      const int64_t depth = 30000;
      const auto token_at = [&](int64_t position) {
        return ids_[static_cast<size_t>(position) % ids_.size()];
      };
      session.cache().fill(depth, token_at, 1);
      std::vector<float> before;
      for (int64_t step = 0; step < 25; ++step) {  // beyond a compression of every streaming policy
        const int32_t id = token_at(depth + step);
        // throws an Error if one is not finite
        const std::span<const float> logits = session.advance({&id, 1});
        const std::vector<float> now(logits.begin(), logits.end());
        ASSERT_NE(now, before) << name;
        before = now;
      }
      EXPECT_EQ(session.cache().length(), depth + 25);
    }
  }
}

}  // namespace
}  // namespace sepllm
