// Going back: a session that was rewound continues as an uninterrupted one would.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "engine/session_test_support.h"

namespace sepllm {
namespace {

constexpr int64_t kPrompt = 31;
constexpr int64_t kEnd = 100;

// Tokens that are fed again in other chunks than before give a difference in the last bits, which rounding to
// fewer bits may enlarge to a step of the type.
float tolerance(DType kv) {
  switch (kv) {
    case DType::kF32:
      return 1e-4F;
    case DType::kF16:
      return 5e-3F;
    default:
      return 5e-2F;
  }
}

class SessionRewind : public test::SessionStateTest {
 protected:
  using Rows = std::vector<std::vector<float>>;

  // Feeds a prompt in chunks, then token by token up to kEnd; rows[t]: the logits after t tokens.
  Rows run(Session& session) const {
    Rows rows(kEnd + 1);
    rows[kPrompt] = advance_to(session, kPrompt);
    for (int64_t t = kPrompt + 1; t <= kEnd; ++t) rows[static_cast<size_t>(t)] = advance_to(session, t);
    return rows;
  }
  static float difference(const std::vector<float>& a, const std::vector<float>& b) {
    float most = 0.0F;
    for (size_t k = 0; k < a.size(); ++k) most = std::max(most, std::abs(a[k] - b[k]));
    return a.size() == b.size() ? most : std::numeric_limits<float>::infinity();
  }
  static size_t likeliest(const std::vector<float>& logits) {
    return static_cast<size_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
  }
};

TEST_F(SessionRewind, ToEveryPositionUnderEveryPolicy) {
  for (auto& [name, settings] : all_settings()) {
    for (const DType kv : {DType::kF32, DType::kF16, DType::kBF16, DType::kI8}) {
      settings.kv = kv;
      Session unbroken(*model_, settings, ctx_);
      const Rows expected = run(unbroken);
      for (int64_t p = 0; p <= kEnd; p += kv == DType::kF32 ? 1 : 3) {
        Session session(*model_, settings, ctx_);
        session.keep_marks({.interval = 10});
        run(session);
        const std::vector<int64_t> marks = session.marks().positions();
        ASSERT_GE(marks.size(), 8U);
        // After the prompt, every token was a chunk.
        const bool same_chunks = p % 2 == 0;
        const bool exact = p >= kPrompt && (same_chunks || std::binary_search(marks.begin(), marks.end(), p));
        session.rewind(p, same_chunks ? Session::Replay::kSameChunks : Session::Replay::kFast);
        ASSERT_EQ(session.cache().length(), p);
        if (p < kPrompt) {
          EXPECT_LE(difference(advance_to(session, kPrompt), expected[kPrompt]), tolerance(kv)) << name;
          continue;
        }
        for (int64_t t = p + 1; t <= std::min(p + 12, kEnd); ++t) {
          const std::vector<float> logits = advance_to(session, t);
          const std::vector<float>& row = expected[static_cast<size_t>(t)];
          if (exact) {
            ASSERT_TRUE(logits == row) << name << " " << dtype_name(kv) << " rewound to " << p << ", " << t;
          }
          ASSERT_LE(difference(logits, row), tolerance(kv)) << name << " " << dtype_name(kv) << " to " << p;
          if (kv == DType::kF32) {
            ASSERT_EQ(likeliest(logits), likeliest(row)) << name << " to " << p << " at " << t;
          }
        }
      }
    }
  }
}

// The statistics and everything else go back too: at a mark, the whole state is what it was.
TEST_F(SessionRewind, TheStateAtAMarkIsTheSame) {
  const auto state = [](const Session& s) {
    std::string bytes;
    StringWriter out(&bytes);
    s.cache().save(out);
    return bytes;
  };
  for (auto& [name, settings] : all_settings()) {
    Session session(*model_, settings, ctx_);
    session.keep_marks({.interval = 1000});
    advance_to(session, 17);
    session.mark();
    const std::string early = state(session);
    advance_to(session, 60);
    session.mark();
    const std::string late = state(session);
    advance_to(session, 300);  // the ring grows, because chunks are longer than before
    session.rewind(60);
    EXPECT_TRUE(state(session) == late) << name;
    session.rewind(60);
    EXPECT_TRUE(state(session) == late) << name;
    advance_to(session, 77);
    session.rewind(17);
    EXPECT_TRUE(state(session) == early) << name;
    EXPECT_EQ(session.marks().positions(), (std::vector<int64_t>{0, 17}));
  }
}

TEST_F(SessionRewind, ManyInARowAndThenSavedAndRestored) {
  for (auto& [name, settings] : all_settings()) {
    Session unbroken(*model_, settings, ctx_);
    Rows expected(ids_.size() + 1);
    for (int64_t t = 1; t <= 300; ++t) expected[static_cast<size_t>(t)] = advance_to(unbroken, t);
    Session session(*model_, settings, ctx_);
    session.keep_marks({.interval = 16, .n_periodic = 4, .n_asked = 2});
    const Rng rng(3);
    for (uint64_t k = 0; k < 120; ++k) {
      const int64_t now = session.cache().length();
      const auto draw = static_cast<int64_t>(rng.bits(2 * k) % 40);
      if (rng.bits(2 * k + 1) % 3 == 0) {
        session.rewind(std::max<int64_t>(0, now - draw));
        continue;
      }
      if (rng.bits(2 * k + 1) % 7 == 0) session.mark();
      const int64_t end = std::min<int64_t>(now + 1 + draw / 2, 300);
      if (end == now) continue;
      ASSERT_LE(difference(advance_to(session, end), expected[static_cast<size_t>(end)]), 1e-4F)
          << name << " step " << k << " at " << end;
    }
    const int64_t at = session.cache().length() / 2;
    session.rewind(at);
    const std::string path = folder_.file("a.state");
    session.save(path);
    Session again(*model_, settings, other_ctx_);
    again.restore(path);
    for (int64_t t = at + 1; t < at + 40; ++t)
      ASSERT_TRUE(advance_to(again, t) == advance_to(session, t)) << name << " " << t;
  }
}

TEST_F(SessionRewind, ReachesNoFurtherBackThanItsMarks) {
  Session session(*model_, PolicySettings{}, ctx_);
  advance_to(session, 20);
  session.keep_marks();
  advance_to(session, 40);
  EXPECT_NO_THROW(session.rewind(25));
  try {
    session.rewind(19);
    FAIL();
  } catch (const Error& e) {
    EXPECT_STREQ(e.what(), "cannot go back that far (expected token 20 or later, got 19)");
  }
  EXPECT_EQ(session.cache().length(), 25);
  // A restored session reaches as far back as the saved one, or to where it was restored.
  const std::string path = folder_.file("a.state"), without = folder_.file("b.state");
  session.save(path);
  advance_to(session, 60);
  session.restore(path);
  EXPECT_EQ(session.marks().positions(), (std::vector<int64_t>{20, 25}));
  Session no_marks(*model_, PolicySettings{}, ctx_);
  no_marks.restore(path);
  no_marks.save(without);
  session.restore(without);
  EXPECT_EQ(session.marks().positions(), (std::vector<int64_t>{25}));
}

// Whatever a session did before (rewinds of all kinds): if it is saved, restored in another process and
// rewound to any end of a chunk, also far before the marks in the file, it has the bits that it had there.
TEST_F(SessionRewind, TheSameBitsFromAStateFile) {
  const std::string path = folder_.file("a.state");
  for (auto& [name, settings] : all_settings()) {
    for (const DType kv : {DType::kF32, DType::kI8}) {
      settings.kv = kv;
      Session session(*model_, settings, ctx_);
      session.keep_marks({.interval = 10});
      run(session);
      session.rewind(40, Session::Replay::kFast);
      session.mark();
      Rows rows(kEnd + 1);
      for (int64_t t = 41; t <= 60; ++t) rows[static_cast<size_t>(t)] = advance_to(session, t);
      advance_to(session, 85);  // in chunks
      session.save(path);
      for (const int64_t p : {40, 47, 59}) {
        Session again(*model_, settings, other_ctx_);
        again.keep_marks({.interval = 10});
        again.restore(path);
        ASSERT_EQ(again.cache().length(), 85);
        const std::vector<int64_t> kept = again.marks().positions();
        EXPECT_EQ(kept.front(), 0);
        EXPECT_TRUE(std::binary_search(kept.begin(), kept.end(), 40)) << "asked for: " << name;
        again.rewind(p);
        for (int64_t t = p + 1; t <= 60; ++t)
          ASSERT_TRUE(advance_to(again, t) == rows[static_cast<size_t>(t)]) << name << " " << p << " " << t;
      }
    }
  }
}

// A file has as many marks as fit next to the cache; positions() shows which can be reached at once.
TEST_F(SessionRewind, AFileHoldsNoMoreThanAFewCopiesOfTheCache) {
  for (auto& [name, settings] : all_settings()) {
    Session session(*model_, settings, ctx_);
    const std::string plain = folder_.file("plain.state"), marked = folder_.file("marked.state");
    advance_to(session, 60);
    session.save(plain);
    Session other(*model_, settings, ctx_);
    other.keep_marks({.interval = 1});
    for (int64_t t = 1; t <= 60; ++t) advance_to(other, t);
    other.save(marked);
    const auto bytes = [](const std::string& file) { return static_cast<int64_t>(read_file(file).size()); };
    EXPECT_LE(bytes(marked), 5 * bytes(plain) + 3000) << name;
    Session again(*model_, settings, ctx_);
    again.keep_marks();
    again.restore(marked);
    EXPECT_GE(again.marks().positions().size(), 4U) << name;
  }
}

// However long the stream is: the number of marks is bounded, and they are dense in the near past.
TEST(Marks, ThinOutWithAge) {
  Marks marks({.interval = 10, .n_periodic = 12, .n_asked = 2, .max_tokens = 2000});
  marks.begin(5);
  marks.add({5, false, ""});
  std::vector<int32_t> tokens(1);
  for (int64_t t = 6; t <= 20'000; ++t) {
    tokens[0] = static_cast<int32_t>(t);
    marks.append(tokens, /*whole=*/true);
    if (marks.due()) marks.add({t, false, std::string(100, 'x')});
    if (t % 777 == 0) marks.add({t, true, ""});
    const std::vector<int64_t> positions = marks.positions();
    ASSERT_LE(positions.size(), 14U);
    ASSERT_LE(t - positions.back(), 10);
    if (t < 200) continue;
    EXPECT_LE(marks.before(t - 40)->position, t - 40);
    EXPECT_GE(marks.before(t - 40)->position, t - 40 - 30) << t;
    if (t > 3000) {
      EXPECT_GE(positions.front(), t - 2600);
      EXPECT_LE(positions.front(), t - 500);
    }
    EXPECT_EQ(marks.tokens(t - 1, t)[0], t);
    EXPECT_LE(marks.bytes(), 14 * 130 + 4 * 6000);
  }
  EXPECT_EQ(marks.before(marks.positions().front() - 1), nullptr);
  EXPECT_EQ(marks.before(777 * 25)->position, 777 * 25);
  marks.cut(19'500);
  EXPECT_EQ(marks.end(), 19'500);
  EXPECT_LE(marks.positions().back(), 19'500);
}

}  // namespace
}  // namespace sepllm
