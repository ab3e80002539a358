#include "server/page/cache_report.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <set>
#include <string>
#include <vector>

#include "engine/session_test_support.h"
#include "server/page/page.h"

namespace sepllm::server {
namespace {

class CacheReport : public test::SessionStateTest {};

// The kind of every position, "" where it was dropped.
std::vector<std::string> kinds(const Json& report) {
  std::vector<std::string> out(report["length"].get<size_t>());
  for (const Json& run : report["held"]) {
    for (auto k = run[0].get<size_t>(); k <= run[1].get<size_t>(); ++k) out.at(k) = run[2].get<std::string>();
  }
  return out;
}

TEST_F(CacheReport, SaysWhyEachPositionIsHeldByTheStaticPolicies) {
  for (const auto& [name, settings] : all_settings()) {
    const Policy& policy = settings.policy;
    if (policy.streaming()) continue;
    SCOPED_TRACE(name);
    Session session(*model_, settings, ctx_);
    advance_to(session, 100);
    const std::vector<std::string> got = kinds(cache_report(session));
    ASSERT_EQ(got.size(), 100U);
    const TokenSet separators = model_->separators(settings);
    const LayerRule rule =
        policy.rule(session.cache().layout().n_layers - 1, session.cache().layout().n_layers);
    std::vector<bool> stays;
    for (int64_t at = 0, last = -1; at < 100; ++at) {
      stays.push_back(rule.stays(at, ids_[static_cast<size_t>(at)], separators, last));
      if (stays.back()) last = at;
    }
    bool in_window = true;  // the run of held positions that ends at the newest one
    for (int64_t at = 99; at >= 0; --at) {
      const bool recent = at > 99 - policy.window;
      std::string want;
      if (policy.kind == PolicyKind::kFull || rule.blocks.used()) {
        want = "window";
      } else if (at < policy.init) {
        want = "initial";
      } else if (recent) {
        want = "window";
      } else if (policy.kind == PolicyKind::kSep && stays[static_cast<size_t>(at)]) {
        want = in_window ? "window" : "separator";
      } else if (policy.kind == PolicyKind::kFixed && (at - policy.init + 1) % policy.interval == 0) {
        want = in_window ? "window" : "interval";
      }
      in_window = in_window && !want.empty();
      EXPECT_EQ(got[static_cast<size_t>(at)], want) << at;
    }
  }
}

TEST_F(CacheReport, CountsWhatAStreamHolds) {
  for (const auto& [name, settings] : all_settings()) {
    SCOPED_TRACE(name);
    Session session(*model_, settings, ctx_);
    advance_to(session, 150);
    const Json report = cache_report(session);
    int64_t held = 0, last = -1;
    for (const Json& run : report["held"]) {
      EXPECT_GT(run[0], last) << "runs are apart and ascend";
      EXPECT_LE(run[0], run[1]);
      last = run[1];
      held += run[1].get<int64_t>() - run[0].get<int64_t>() + 1;
    }
    const std::vector<int64_t> slots = session.cache().slot_positions(1);
    EXPECT_EQ(held, std::ssize(std::set<int64_t>(slots.begin(), slots.end())));
    EXPECT_EQ(last, 149);
    EXPECT_EQ(report["kv"]["bytes"], session.cache().held_bytes());
    EXPECT_EQ(report["kv"]["full_bytes"], session.cache().stats().full_bytes);
  }
}

TEST(Page, LoadsNothingFromElsewhere) {
  const std::string page(page_html());
  EXPECT_TRUE(page.starts_with("<!DOCTYPE html>")) << page.substr(0, 40);
  EXPECT_TRUE(page.ends_with("</html>\n"));
  for (const char* outside : {"http://", "https://", "src=", "@import", "url("})
    EXPECT_EQ(page.find(outside), std::string::npos) << outside;
}

}  // namespace
}  // namespace sepllm::server
