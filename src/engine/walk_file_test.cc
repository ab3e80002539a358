#include "engine/walk_file.h"

#include <gtest/gtest.h>

#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "base/file.h"
#include "base/log.h"
#include "tests/support/support.h"

namespace sepllm {
namespace {

class Walks : public testing::Test {
 protected:
  void SetUp() override {
    old_ = set_log_sink([this](LogLevel level, const std::string& text) {
      EXPECT_EQ(level, LogLevel::kDebug) << text;
      lines_.push_back(text);
    });
  }
  void TearDown() override { set_log_sink(std::move(old_)); }

  std::string path() const { return (folder_.path() + "/" + "cache/sepllm/walks.json"); }
  void save(const std::string& machine) {
    WalkFile file(path(), machine);
    file.put({"q8_0, 2 threads", {1, 0}, 3e10});
    file.put({"q4_0, 2 threads", {8, 1024}, 2e10});
    file.put({"q8_0, 2 threads", {2, 512}, 4e10});
    file.save();
  }
  void overwrite(const std::string& text) { std::ofstream(path()) << text; }

  test::TemporaryFolder folder_;
  std::vector<std::string> lines_;
  LogSink old_;
};

TEST_F(Walks, AreRememberedForTheSameMachine) {
  save("this one");
  const WalkFile again(path(), "this one");
  const auto walk = again.find("q8_0, 2 threads");
  ASSERT_TRUE(walk);
  EXPECT_EQ(walk->walk, (Walk{2, 512}));
  EXPECT_EQ(walk->bytes_per_second, 4e10);
  EXPECT_EQ(again.find("q4_0, 2 threads")->walk, (Walk{8, 1024}));
  EXPECT_FALSE(again.find("q8_0, 1 threads"));
  EXPECT_TRUE(lines_.empty());
}

TEST_F(Walks, OfAnotherMachineAreIgnoredWithOneLine) {
  save("another one");
  EXPECT_FALSE(WalkFile(path(), "this one").find("q8_0, 2 threads"));
  ASSERT_EQ(lines_.size(), 1U);
  EXPECT_NE(lines_[0].find("another one"), std::string::npos);
  save("this one");  // takes its place
  EXPECT_TRUE(WalkFile(path(), "this one").find("q8_0, 2 threads"));
}

TEST_F(Walks, OfADamagedFileAreIgnoredWithOneLine) {
  const std::string good =
      R"({"machine": "m", "walks": [{"key": "k", "streams": 2, "ahead": 0, "bytes_per_second": 1}]})";
  save("m");
  overwrite(good);
  ASSERT_TRUE(WalkFile(path(), "m").find("k"));
  const std::string bad[] = {
      "",
      "{",
      "[]",
      R"({"machine": "m"})",
      R"({"machine": "m", "walks": 3})",
      R"({"machine": "m", "walks": [{"key": "k", "streams": 3, "ahead": 0, "bytes_per_second": 1}]})",
      R"({"machine": "m", "walks": [{"key": "k", "streams": 16, "ahead": 0, "bytes_per_second": 1}]})",
      R"({"machine": "m", "walks": [{"key": "k", "streams": 2, "ahead": -1, "bytes_per_second": 1}]})",
      R"({"machine": "m", "walks": [{"key": "k", "streams": 2, "ahead": 1e9, "bytes_per_second": 1}]})",
      R"({"machine": "m", "walks": ["k"]})",
      good.substr(0, good.size() - 3)};
  for (const std::string& text : bad) {
    lines_.clear();
    overwrite(text);
    EXPECT_FALSE(WalkFile(path(), "m").find("k")) << text;
    EXPECT_EQ(lines_.size(), 1U) << text;
  }
}

TEST_F(Walks, WhereNothingCanBeWrittenAreForgotten) {
  std::ofstream((folder_.path() + "/" + "cache")) << "a file where the folder would be";
  WalkFile file(path(), "m");
  file.put({"k", {}, 1});
  file.save();
  EXPECT_EQ(lines_.size(), 1U);
  EXPECT_TRUE(file.find("k"));
  WalkFile none("", "m");
  none.put({"k", {}, 1});
  none.save();
  EXPECT_EQ(lines_.size(), 1U);
}

}  // namespace
}  // namespace sepllm
