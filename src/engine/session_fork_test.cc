// Forks: the copy of a session continues as the session does, bit for bit, and the two are independent.
#include <gtest/gtest.h>

#include <cstdint>
#include <span>
#include <vector>

#include "engine/session_test_support.h"

namespace sepllm {
namespace {

using SessionFork = test::SessionStateTest;

TEST_F(SessionFork, GoesOnWithTheSameBitsAsOneThatWasFedAnew) {
  for (auto& [name, settings] : all_settings()) {
    for (const DType kv : {DType::kF32, DType::kF16, DType::kBF16, DType::kI8}) {
      settings.kv = kv;
      Session session(*model_, settings, ctx_);
      session.keep_marks({.interval = 10});
      advance_to(session, 31);
      for (int64_t at = 31; at < 100; at += 23) {
        while (session.cache().length() < at) advance_to(session, session.cache().length() + 1);
        Session fork = session.fork(other_ctx_), other = session.fork(ctx_);
        // Another text in one of them changes neither of the others.
        other.advance(std::span(ids_).subspan(200, 60));
        Session anew(*model_, settings, ctx_);
        advance_to(anew, 31);
        while (anew.cache().length() < at) advance_to(anew, anew.cache().length() + 1);
        for (const int64_t end : {at + 1, at + 2, at + 20, at + 21}) {
          const std::vector<float> expected = advance_to(anew, end);
          ASSERT_TRUE(advance_to(fork, end) == expected) << name << " " << dtype_name(kv) << " " << end;
        }
        // The fork goes back as the original would, and the original has not changed.
        fork.rewind(at);
        ASSERT_EQ(session.cache().length(), at);
        Session again = session.fork(ctx_);
        ASSERT_TRUE(advance_to(fork, at + 20) == advance_to(again, at + 20)) << name;
      }
    }
  }
}

// A copy of the beginning is what fork() and rewind() give, wherever rewind() feeds nothing again.
TEST_F(SessionFork, OfABeginning) {
  for (const auto& [name, settings] : all_settings()) {
    SCOPED_TRACE(name);
    Session session(*model_, settings, ctx_);
    session.keep_marks({.interval = 10});
    advance_to(session, 90);
    EXPECT_EQ(session.rewinds_to(90), 90);
    EXPECT_EQ(session.rewinds_to(1000), 90);
    const bool cuts = session.cache().drops_nothing();
    int64_t n_places = 0;
    for (int64_t place = 0; place < 90; ++place) {
      if (session.rewinds_to(place) != place) continue;
      ++n_places;
      Session part = session.fork_at(other_ctx_, place), whole = session.fork(ctx_);
      whole.rewind(place);
      ASSERT_EQ(part.cache().length(), place);
      EXPECT_EQ(part.marks().positions(), whole.marks().positions());
      ASSERT_TRUE(advance_to(part, place + 25) == advance_to(whole, place + 25)) << place;
      EXPECT_EQ(part.in_common(ids_), place + 25);
      // Chunks that were cut are not those of a fed text.
      EXPECT_LE(part.marks().whole_end(1000), cuts ? (place + 24) / 9 * 9 : 1000);
    }
    EXPECT_EQ(n_places == 90, cuts) << n_places;
    EXPECT_GE(n_places, 3);
    EXPECT_EQ(session.cache().length(), 90);
    std::vector<int32_t> other = ids_;
    other[50] ^= 1;
    EXPECT_EQ(session.in_common(other), 50);
    session.keep_marks();
    EXPECT_EQ(session.in_common(ids_), 0) << "it does not know how it began";
    EXPECT_EQ(session.rewinds_to(50), -1);
  }
}

}  // namespace
}  // namespace sepllm
