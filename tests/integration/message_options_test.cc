// Messages of the core name options as data (base/error.h): the command line writes --init, and a server or a
// binding uses its own names. So no text in src/ may have dashes before a name, and everything marked as an
// option must be one.
#include <gtest/gtest.h>

#include <filesystem>
#include <regex>
#include <string>
#include <vector>

#include "base/file.h"

namespace {

namespace fs = std::filesystem;

// The string literals of a source, one line at a time; comments are left out.
std::vector<std::string> literals(const std::string& source) {
  std::vector<std::string> out;
  for (size_t k = 0; k < source.size(); ++k) {
    if (source.compare(k, 2, "//") == 0) {
      k = std::min(source.find('\n', k), source.size());
    } else if (source[k] == '\'') {  // a character
      k += source.compare(k + 1, 1, "\\") == 0 ? 3 : 2;
    } else if (source[k] == '"') {
      std::string text;
      for (++k; k < source.size() && source[k] != '"' && source[k] != '\n'; ++k) {
        if (source[k] == '\\') text += source[k++];
        text += source[k];
      }
      out.push_back(text);
    }
  }
  return out;
}

// Dashes before a name, unless the text is a whole command that a reader may run.
bool writes_dashes(const std::string& text) {
  static const std::regex kDashes("(^|[^-\\w])--[a-z]");
  return std::regex_search(text, kDashes) && text.find("sepllm ") == std::string::npos;
}

std::vector<std::string> marked_options(const std::string& source) {
  static const std::regex kMarked("option_name\\(\"([^\"]*)\"\\)");
  std::vector<std::string> out;
  for (std::sregex_iterator at(source.begin(), source.end(), kMarked), end; at != end; ++at)
    out.push_back((*at)[1]);
  return out;
}

TEST(MessageOptions, TheCoreWritesNoDashes) {
  const std::string help = sepllm::read_file(std::string(SEPLLM_SOURCE_DIR) + "/docs/CLI.md");
  size_t sources = 0, marked = 0;
  for (const auto& entry : fs::recursive_directory_iterator(fs::path(SEPLLM_SOURCE_DIR) / "src")) {
    const std::string path = entry.path().string();
    const bool is_source = path.ends_with(".cc") || path.ends_with(".h") || path.ends_with(".c");
    if (!is_source || path.ends_with("_test.cc")) continue;
    ++sources;
    const std::string source = sepllm::read_file(path);
    for (const std::string& text : literals(source))
      EXPECT_FALSE(writes_dashes(text)) << path << ": \"" << text << '"';
    for (const std::string& name : marked_options(source)) {
      ++marked;
      EXPECT_NE(help.find("`--" + name + " "), std::string::npos) << path << ": no option " << name;
    }
  }
  EXPECT_GT(sources, 200U);
  EXPECT_GT(marked, 20U);
}

TEST(MessageOptions, TheTestSeesWhatItLooksFor) {
  EXPECT_EQ(literals("f('\"', \"a\\\"b\"); // \"no\"\n\"c\""), (std::vector<std::string>{"a\\\"b", "c"}));
  for (const char* bad : {"--init must", "use --kv", "(--kv)", "'--set x'"})
    EXPECT_TRUE(writes_dashes(bad)) << bad;
  for (const char* good : {"`sepllm inspect --check` names", "a -- b", "---", "step--n"})
    EXPECT_FALSE(writes_dashes(good)) << good;
}

}  // namespace
