#include "base/log.h"

#include <gtest/gtest.h>

#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace sepllm {
namespace {

TEST(Log, GoesToTheSinkInForce) {
  std::vector<std::pair<LogLevel, std::string>> lines;
  LogSink old =
      set_log_sink([&](LogLevel level, const std::string& text) { lines.emplace_back(level, text); });
  log_info("one");
  log_warning("two");
  LogSink mine = set_log_sink(nullptr);
  log_info("dropped");
  ASSERT_TRUE(mine != nullptr);
  mine(LogLevel::kInfo, "three");  // the old sink was returned unchanged
  EXPECT_EQ(lines, (std::vector<std::pair<LogLevel, std::string>>{
                       {LogLevel::kInfo, "one"}, {LogLevel::kWarning, "two"}, {LogLevel::kInfo, "three"}}));
  set_log_sink(std::move(old));
}

TEST(Log, HeldLinesComeWithTheReleaseOrNotAtAll) {
  std::vector<std::string> lines;
  LogSink old = set_log_sink([&](LogLevel, const std::string& text) { lines.push_back(text); });
  {
    HeldWarnings held;
    log_warning("dropped");
  }
  {
    HeldWarnings outer;
    log_warning("one");
    {
      HeldWarnings inner;
      log_info("two");
      inner.release();
    }
    EXPECT_TRUE(lines.empty());
    std::thread([] { log_info("of another thread"); }).join();
    outer.release();
    log_info("dropped too");
  }
  log_info("three");
  set_log_sink(std::move(old));
  EXPECT_EQ(lines, (std::vector<std::string>{"of another thread", "one", "two", "three"}));
}

TEST(Log, LinesOfThreadsDoNotMix) {
  std::vector<std::string> lines;  // needs no lock: only one thread at a time calls the sink
  LogSink old = set_log_sink([&](LogLevel, const std::string& text) { lines.push_back(text); });
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([] {
      for (int k = 0; k < 200; ++k) log_info("line");
    });
  }
  for (std::thread& t : threads) t.join();
  set_log_sink(std::move(old));
  EXPECT_EQ(lines.size(), 800U);
}

}  // namespace
}  // namespace sepllm
