#include "text/formats/chat_files.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "base/error.h"
#include "tests/support/expect_error.h"
#include "tests/support/support.h"

namespace sepllm {
namespace {

std::string listed(const std::string& folder) {
  std::string out;
  for (const NamedTemplate& one : read_chat_templates(folder)) out += one.name + "=" + one.text + " ";
  return out;
}

TEST(ChatFiles, AreReadInTheOrderOfTransformers) {
  const test::TemporaryFolder folder;
  EXPECT_EQ(listed(folder.path()), "");
  EXPECT_TRUE(chat_template_files(folder.path()).empty());
  folder.write("chat_template.json", R"({"chat_template": "P"})");
  EXPECT_EQ(listed(folder.path()), "default=P ");
  folder.write("tokenizer_config.json", R"({"chat_template": null})");
  EXPECT_EQ(listed(folder.path()), "default=P ");
  folder.write("tokenizer_config.json", R"({"chat_template": "C"})");
  EXPECT_EQ(listed(folder.path()), "default=C ");
  folder.write(
      "tokenizer_config.json",
      R"({"chat_template": [{"name": "tool_use", "template": "T"}, {"name": "default", "template": "D"}]})");
  EXPECT_EQ(listed(folder.path()), "tool_use=T default=D ");
  std::filesystem::create_directory(folder.file("additional_chat_templates"));
  folder.write("additional_chat_templates/rag.jinja", "R");
  folder.write("additional_chat_templates/notes.txt", "N");
  EXPECT_EQ(listed(folder.path()), "rag=R ");
  folder.write("chat_template.jinja", "J\n");
  EXPECT_EQ(listed(folder.path()), "default=J\n rag=R ");
  EXPECT_EQ(read_chat_templates(folder.path())[1].file, folder.file("additional_chat_templates/rag.jinja"));
  EXPECT_EQ(chat_template_files(folder.path()),
            (std::vector<std::string>{"chat_template.jinja", "chat_template.json",
                                      "additional_chat_templates/rag.jinja"}));
}

TEST(ChatFiles, WrongOnesAreErrors) {
  const auto refuses = [](const std::string& name, const std::string& content, const std::string& part) {
    const test::TemporaryFolder folder;
    folder.write(name, content);
    test::expect_error([&] { read_chat_templates(folder.path()); }, ErrorCode::kBadFile, {name, part});
  };
  refuses("chat_template.jinja", "\xFF", "UTF-8");
  refuses("tokenizer_config.json", R"({"chat_template": 1})", "chat_template");
  refuses("tokenizer_config.json", R"({"chat_template": [1]})", "chat_template[]");
  refuses("tokenizer_config.json", R"({"chat_template": [{"name": "x", "template": 1}]})",
          "chat_template[].template");
  refuses("chat_template.json", "[]", "chat_template.json");
}

}  // namespace
}  // namespace sepllm
