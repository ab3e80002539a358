#include "engine/file_stream.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "base/error.h"
#include "model/random_model.h"
#include "tests/support/support.h"

namespace sepllm {
namespace {

class FileStreamTest : public ::testing::Test {
 protected:
  void SetUp() override {
    write_random_model(folder_.file("model"), {});
    model_.emplace(load_model(folder_.file("model"), ""));
    for (int k = 0; text_.size() < 1000000; ++k) {
      text_ += "line " + std::to_string(k) + (k % 3 == 0 ? " é中 ends\n" : " goes on, ");
    }
  }
  // All ids, read in steps of this size; the next ones are looked at as well.
  std::vector<int32_t> all(const TextInput& input, int64_t step) const {
    FileStream stream(*model_, input);
    std::vector<int32_t> out;
    for (;;) {
      const std::span<const int32_t> ids = stream.peek(step + 1);
      const auto n = std::min<int64_t>(step, static_cast<int64_t>(ids.size()));
      if (n == 0) return out;
      out.insert(out.end(), ids.begin(), ids.begin() + n);
      stream.take(n);
    }
  }
  std::string message_of(const TextInput& input) const {
    try {
      count_tokens(*model_, input);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  }

  test::TemporaryFolder folder_;
  std::optional<Model> model_;
  std::string text_;
};

TEST_F(FileStreamTest, FilesOfManyBlocksAreTheIdsOfTheWhole) {
  const TextInput input{.texts = {folder_.write("a.txt", text_), folder_.write("b.txt", "x\ny"),
                                  folder_.write("c.txt", ""), folder_.write("d.txt", text_)}};
  std::vector<int32_t> expected = model_->encode(text_, "auto");
  for (const std::string& text : {std::string("x\ny"), text_}) {
    const auto ids = model_->encode(text, "off");
    expected.insert(expected.end(), ids.begin(), ids.end());
  }
  for (const int64_t step : {511, 70000, 5000000}) EXPECT_EQ(all(input, step), expected) << step;
  EXPECT_EQ(count_tokens(*model_, input), static_cast<int64_t>(expected.size()));
}

TEST_F(FileStreamTest, TheFirstTokensWithTheirBos) {
  TextInput input{.texts = {folder_.write("a.txt", text_)}, .bos = "on", .tokens = 300000};
  auto expected = model_->encode(text_, "on");
  expected.resize(300001);
  EXPECT_EQ(all(input, 1000), expected);
  EXPECT_EQ(count_tokens(*model_, input), 300000);
  input.tokens = static_cast<int64_t>(text_.size()) + 1;
  EXPECT_NE(message_of(input).find("tokens does not fit the text"), std::string::npos) << message_of(input);
  EXPECT_NE(message_of(input).find("to " + std::to_string(text_.size())), std::string::npos);
}

TEST_F(FileStreamTest, IdsOfManyBlocks) {
  std::string list;
  std::vector<int32_t> expected;
  for (int32_t k = 0; list.size() < 600000; ++k) {
    expected.push_back(k * 7 % 256);
    list += std::to_string(expected.back()) + (k % 5 == 0 ? "\n" : " ");
  }
  EXPECT_EQ(all({.ids = folder_.write("a.ids", list)}, 1000), expected);
  const std::string place = "position " + std::to_string(expected.size());
  EXPECT_NE(message_of({.ids = folder_.write("b.ids", list + " 12x")}).find(place), std::string::npos);
  EXPECT_NE(message_of({.ids = folder_.write("c.ids", list + " 99999")}).find(place), std::string::npos);
  EXPECT_NE(message_of({.ids = folder_.write("d.ids", std::string(900000, '1'))}).find("position 0"),
            std::string::npos);
}

TEST_F(FileStreamTest, APipeIsReadAsItComes) {
  const std::string pipe = folder_.file("pipe");
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  std::thread writer([&] { std::ofstream(pipe) << text_; });
  const TextInput input{.texts = {pipe}};
  EXPECT_FALSE(input.regular());
  EXPECT_EQ(all(input, 1000), model_->encode(text_, "auto"));
  writer.join();
}

TEST_F(FileStreamTest, WrongFilesAreNamedWithThePlace) {
  std::string bad = text_;
  bad[700001] = '\xFF';
  const std::string message =
      message_of({.texts = {folder_.write("good.txt", "good"), folder_.write("bad.txt", bad)}});
  EXPECT_NE(message.find("bad.txt: byte 70000"), std::string::npos) << message;
  EXPECT_NE(message.find("UTF-8"), std::string::npos) << message;
  EXPECT_NE(message_of({.texts = {folder_.file("none.txt")}}).find("none.txt"), std::string::npos);
  EXPECT_NE(message_of({.texts = {folder_.path()}}).find("folder"), std::string::npos);
  EXPECT_NE(message_of({.texts = {folder_.write("empty.txt", "")}}).find("too little text"),
            std::string::npos);
  // A character is cut off at the end of the file.
  EXPECT_NE(message_of({.texts = {folder_.write("cut.txt", "abc\xE4\xB8")}}).find("byte 3"),
            std::string::npos);
}

}  // namespace
}  // namespace sepllm
