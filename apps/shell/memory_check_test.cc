#include "apps/shell/memory_check.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "apps/shell/memory_plan.h"
#include "base/error.h"
#include "model/random_model.h"
#include "tests/support/captured_log.h"
#include "tests/support/expect_error.h"
#include "tests/support/support.h"

namespace sepllm {
namespace {

using test::CapturedLog;
using test::expect_error;

constexpr int64_t kGiB = int64_t{1} << 30;

class MemoryCheck : public ::testing::Test {
 protected:
  MemoryCheck() { write_random_model(folder_.path(), {}); }

  static MemoryAtHand memory(int64_t bytes, int64_t with_swap = 0) {
    return {.bytes = bytes, .most = std::max(bytes, with_swap)};
  }
  // "" if it fits; else the warning, or "error: " and the Error.
  template <typename Check>
  static std::string said(const Check& check) {
    const CapturedLog log;
    try {
      check();
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ErrorCode::kOutOfRange);
      EXPECT_TRUE(log.lines().empty());
      return std::string("error: ") + e.what();
    }
    EXPECT_LE(log.lines().size(), 1U);
    return log.lines().empty() ? "" : log.lines()[0];
  }
  std::string weights(const WeightMemory& memory, const MemoryAtHand& at_hand, int64_t tokens = 0) const {
    const ModelConfig config = read_model_spec(folder_.path()).config;
    return said([&] { check_weights_fit("m", config, memory, {}, {.certain = tokens}, at_hand); });
  }
  std::string cache(const RunLength& length, const MemoryAtHand& at_hand,
                    const PolicySettings& s = {}) const {
    const Model model = load_model(folder_.path(), "");
    return said([&] { check_cache_fits(model, s, length, at_hand); });
  }
  static void expect_parts(const std::string& text, const std::vector<std::string>& parts) {
    for (const std::string& part : parts) EXPECT_NE(text.find(part), std::string::npos) << text;
  }

 private:
  test::TemporaryFolder folder_;
};

TEST_F(MemoryCheck, WeightsOfTheirOwnMustFit) {
  EXPECT_EQ(weights({.owned = 4 * kGiB}, memory(4 * kGiB)), "");
  expect_parts(
      weights({.owned = 4 * kGiB + 1}, memory(4 * kGiB)),
      {"error: m: ", "expected at most 4.0 GiB", "got 4.0 GiB of weights", "--weights", "SEPLLM_MEMORY"});
  // With swap they fit, but are slow.
  expect_parts(weights({.owned = 5 * kGiB}, memory(4 * kGiB, 5 * kGiB)),
               {"m: 5.0 GiB", "(4.0 GiB, 5.0 GiB with swap and reserves)", "it runs, but swaps"});
  expect_parts(weights({.owned = 5 * kGiB + 1}, memory(4 * kGiB, 5 * kGiB)),
               {"error: ", "at most 4.0 GiB, 5.0 GiB with swap and reserves"});
}

TEST_F(MemoryCheck, MappedWeightsNeedNotFitButAreSlow) {
  EXPECT_EQ(weights({.mapped = 4 * kGiB}, memory(4 * kGiB)), "");
  expect_parts(
      weights({.mapped = 14 * kGiB}, memory(4 * kGiB)),
      {"m: 14.0 GiB of weights (14.0 GiB mapped", "(4.0 GiB)", "it runs, but reads weights from the disk"});
  expect_parts(weights({.owned = 2 * kGiB, .mapped = 3 * kGiB}, memory(4 * kGiB)),
               {"5.0 GiB", "3.0 GiB mapped"});
}

TEST_F(MemoryCheck, WhereNothingIsKnownNothingIsTooMuch) {
  EXPECT_EQ(weights({.owned = int64_t{1} << 60, .mapped = int64_t{1} << 60}, {}, int64_t{1} << 40), "");
  EXPECT_EQ(cache({.certain = INT64_MAX, .possible = INT64_MAX}, {}), "");
  EXPECT_EQ(memory_text({}), "unknown");
}

TEST_F(MemoryCheck, TheCacheOfWhatIsCertainMustFitBeforeTheWeightsAreRead) {
  // A token has 3 layers x 2 heads x 16 elements, twice, in f32: 768 bytes.
  EXPECT_EQ(weights({.owned = kGiB}, memory(2 * kGiB), 1'000'000), "");
  expect_parts(weights({.owned = kGiB}, memory(2 * kGiB), 2'000'000),
               {"error: ", "1.0 GiB of weights and 1.4 GiB of cache for 2000000 tokens"});
}

TEST_F(MemoryCheck, TheCacheMustFit) {
  EXPECT_EQ(cache({.certain = 1'000'000}, memory(kGiB)), "");
  expect_parts(cache({.certain = 2'000'000}, memory(kGiB)),
               {"error: ", "got 1.4 GiB of cache for 2000000 tokens", "--kv"});
  EXPECT_EQ(cache({.certain = 10, .possible = 1'000'000}, memory(kGiB)), "");
  expect_parts(cache({.certain = 10, .possible = 2'000'000}, memory(kGiB)),
               {"up to 1.4 GiB of cache for 2000000 tokens", "1.0 GiB"});
  expect_parts(cache({.certain = 2'000'000}, memory(kGiB, 2 * kGiB)),
               {"1.4 GiB of cache", "2.0 GiB with swap and reserves"});
  PolicySettings q8;
  q8.kv = DType::kI8;
  EXPECT_EQ(cache({.certain = 2'000'000}, memory(kGiB), q8), "");
  PolicySettings stream;
  stream.policy.kind = PolicyKind::kSinkStream;
  EXPECT_EQ(cache({.certain = INT64_MAX, .possible = INT64_MAX}, memory(kGiB), stream), "");
}

// A text may have no separators: what a policy may keep gives a warning, what it must keep gives an error.
TEST_F(MemoryCheck, SeparatorsAreNotCertain) {
  PolicySettings sep;
  sep.policy.kind = PolicyKind::kSep;
  const std::string said = cache({.certain = 20'000'000}, memory(kGiB), sep);
  expect_parts(said, {"of cache for 20000000 tokens"});
  EXPECT_FALSE(said.starts_with("error")) << said;
  EXPECT_TRUE(cache({.certain = 20'000'000}, memory(kGiB)).starts_with("error"));
}

}  // namespace
}  // namespace sepllm
