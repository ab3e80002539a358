// Dependencies point one way (docs/ARCHITECTURE.md): reads every #include "..." of src/ and apps/ and fails
// on one that points up or sideways.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "base/file.h"

namespace {

namespace fs = std::filesystem;

// What each folder may include, in addition to itself and what these may include.
const std::map<std::string, std::set<std::string>>& direct_arrows() {
  static const std::map<std::string, std::set<std::string>> kArrows = {
      {"base", {}},
      {"tensor", {"base"}},
      {"text", {"checkpoint"}},
      {"attention", {"base"}},
      {"kernels", {"attention", "tensor"}},
      {"checkpoint", {"tensor"}},
      {"cache", {"attention", "tensor"}},
      {"ops", {"kernels", "cache"}},
      {"model", {"ops", "checkpoint"}},
      {"engine", {"model", "text"}},
      {"train", {"model", "text"}},
      {"eval", {"engine"}},
      {"server", {"engine"}},
      {"capi", {"engine"}},
  };
  return kArrows;
}

std::set<std::string> reachable(const std::string& folder) {
  std::set<std::string> out = {folder};
  for (const std::string& next : direct_arrows().at(folder)) out.merge(reachable(next));
  return out;
}

std::vector<std::string> included_files(const std::string& source) {
  std::vector<std::string> out;
  std::istringstream lines(source);
  for (std::string line; std::getline(lines, line);) {
    const size_t hash = line.find_first_not_of(" \t");
    if (hash == std::string::npos || line[hash] != '#') continue;
    const size_t word = line.find_first_not_of(" \t", hash + 1);
    if (word == std::string::npos || line.compare(word, 7, "include") != 0) continue;
    const size_t open = line.find('"', word);
    const size_t close = open == std::string::npos ? open : line.find('"', open + 1);
    if (close != std::string::npos) out.push_back(line.substr(open + 1, close - open - 1));
  }
  return out;
}

// Faults in the includes of one file, given by its path from the top of the repository.
std::vector<std::string> wrong_arrows(const std::string& path, const std::string& source) {
  std::vector<std::string> wrong, parts;
  for (const fs::path& part : fs::path(path)) parts.push_back(part.string());
  const bool is_app = parts.at(0) == "apps";
  const bool is_test = path.ends_with("_test.cc") || path.find("test_support") != std::string::npos;
  if (!is_app && (parts.size() < 3 || !direct_arrows().contains(parts[1]))) {
    return {path + ": lies in no known folder of src/"};
  }
  for (const std::string& file : included_files(source)) {
    const std::string to = file.substr(0, file.find('/'));
    const bool is_beside = file.find('/') == std::string::npos;
    const bool is_known = is_app ? to == "apps" || to == "bench" || is_beside || direct_arrows().contains(to)
                                 : reachable(parts[1]).contains(to);
    const bool is_right = is_known || (is_test && to == "tests");
    if (!is_right) wrong.push_back(path + ": includes \"" + file + "\"");
  }
  return wrong;
}

bool is_source(const fs::path& path) {
  return path.extension() == ".cc" || path.extension() == ".h" || path.extension() == ".inc";
}

TEST(IncludeArrows, PointOneWayInTheSources) {
  const fs::path top = SEPLLM_SOURCE_DIR;
  int n_files = 0;
  for (const char* folder : {"src", "apps"}) {
    if (!fs::exists(top / folder)) continue;
    for (const auto& entry : fs::recursive_directory_iterator(top / folder)) {
      if (!entry.is_regular_file() || !is_source(entry.path())) continue;
      ++n_files;
      const std::string path = fs::relative(entry.path(), top).generic_string();
      const std::string source = sepllm::read_file(entry.path());
      for (const std::string& wrong : wrong_arrows(path, source)) ADD_FAILURE() << wrong;
    }
  }
  EXPECT_GT(n_files, 50);
}

// --- Inside a folder ---

// A folder inside `folder`, or a file directly in it together with its header: "linear", "blas".
std::string unit_of(const fs::path& file, const fs::path& folder) {
  const fs::path inside = file.lexically_relative(folder);
  if (inside.has_parent_path()) return inside.begin()->string();
  const std::string stem = inside.stem().string();
  return stem.ends_with("-inl") ? stem.substr(0, stem.size() - 4) : stem;
}

using Units = std::map<std::string, std::set<std::string>>;  // a unit, and the others that it includes

// The units that can reach themselves: if there are none, all arrows can be drawn downwards.
std::vector<std::string> units_in_circles(const Units& units) {
  std::vector<std::string> out;
  for (const auto& [start, first] : units) {
    std::set<std::string> seen;
    std::vector<std::string> open(first.begin(), first.end());
    while (!open.empty()) {
      const std::string unit = open.back();
      open.pop_back();
      if (!seen.insert(unit).second || !units.contains(unit)) continue;
      open.insert(open.end(), units.at(unit).begin(), units.at(unit).end());
    }
    if (seen.contains(start)) out.push_back(start);
  }
  return out;
}

// The folders inside these three have an order, too: none of them includes what lies above it.
TEST(IncludeArrows, FoldersInsideAFolderFormNoCircles) {
  const fs::path top = SEPLLM_SOURCE_DIR;
  for (const auto& [folder, root] : {std::pair{"src/kernels", "src"}, {"src/text", "src"}, {"apps", ""}}) {
    Units units;
    for (const auto& entry : fs::recursive_directory_iterator(top / folder)) {
      const std::string name = entry.path().filename().string();
      const bool is_test = name.ends_with("_test.cc") || name.find("test_support") != std::string::npos;
      if (!entry.is_regular_file() || !is_source(entry.path()) || is_test) continue;
      const std::string from = unit_of(fs::relative(entry.path(), top), folder);
      for (const std::string& file : included_files(sepllm::read_file(entry.path()))) {
        const fs::path to = fs::path(root) / file;
        if (!to.generic_string().starts_with(std::string(folder) + "/") || !fs::exists(top / to)) continue;
        if (unit_of(to, folder) != from) units[from].insert(unit_of(to, folder));
      }
    }
    EXPECT_GT(units.size(), 5U) << folder;
    EXPECT_EQ(units_in_circles(units), std::vector<std::string>{}) << folder;
  }
}

TEST(IncludeArrows, ACircleIsFound) {
  EXPECT_EQ(units_in_circles({{"a", {"b"}}, {"b", {"c"}}, {"c", {"b", "d"}}}),
            (std::vector<std::string>{"b", "c"}));
  EXPECT_TRUE(units_in_circles({{"a", {"b", "c"}}, {"b", {"c"}}}).empty());
  EXPECT_EQ(unit_of("src/kernels/linear/linear_few.h", "src/kernels"), "linear");
  EXPECT_EQ(unit_of("src/kernels/simd-inl.h", "src/kernels"), "simd");
}

// A forward declaration is an arrow too: `struct X;` at the beginning of a line points to where X is defined.
std::vector<std::string> declared_names(const std::string& source, bool defined) {
  static const std::regex kDeclaration(R"(^(?:class|struct) (\w+);)");
  static const std::regex kDefinition(R"(^(?:class|struct) (\w+)(?: final)? (?:\{|: ).*)");
  std::vector<std::string> out;
  std::istringstream lines(source);
  std::smatch match;
  for (std::string line; std::getline(lines, line);) {
    if (std::regex_search(line, match, defined ? kDefinition : kDeclaration)) out.push_back(match[1]);
  }
  return out;
}

TEST(IncludeArrows, ForwardDeclarationsDoNotPointUp) {
  const fs::path top = fs::path(SEPLLM_SOURCE_DIR) / "src";
  std::map<std::string, std::set<std::string>> folders_of, declared_in;
  for (const auto& entry : fs::recursive_directory_iterator(top)) {
    if (!entry.is_regular_file() || !is_source(entry.path())) continue;
    const std::string folder = fs::relative(entry.path(), top).begin()->string();
    const std::string source = sepllm::read_file(entry.path());
    for (const std::string& name : declared_names(source, true)) folders_of[name].insert(folder);
    for (const std::string& name : declared_names(source, false)) declared_in[name].insert(folder);
  }
  EXPECT_GT(folders_of.size(), 100U);
  EXPECT_EQ(folders_of["Context"], std::set<std::string>{"tensor"});
  for (const auto& [name, declaring] : declared_in) {
    for (const std::string& folder : declaring) {
      const std::set<std::string> below = reachable(folder);
      const std::set<std::string>& defining = folders_of[name];  // empty: of another library
      const bool is_right = defining.empty() || std::any_of(defining.begin(), defining.end(),
                                                            [&](const auto& f) { return below.contains(f); });
      EXPECT_TRUE(is_right) << "src/" << folder << " declares " << name << ", which lies above it";
    }
  }
}

// Lines of a source that ask which family a model is of.
std::vector<std::string> questions_for_the_family(const std::string& source) {
  static const std::regex kQuestion(R"(\bfamily(\(\))?\s*[!=]=)");
  std::vector<std::string> out;
  std::istringstream lines(source);
  for (std::string line; std::getline(lines, line);) {
    if (std::regex_search(line, kQuestion)) out.push_back(line);
  }
  return out;
}

// What differs between families is data (model/config.h): code that asks for one by name would have to be
// found again with each new family.
TEST(IncludeArrows, OnlyFamiliesAskWhichFamilyItIs) {
  const fs::path top = SEPLLM_SOURCE_DIR;
  for (const char* folder : {"src", "apps"}) {
    for (const auto& entry : fs::recursive_directory_iterator(top / folder)) {
      const std::string path = fs::relative(entry.path(), top).generic_string();
      if (!entry.is_regular_file() || !is_source(entry.path()) || path.starts_with("src/model/families/"))
        continue;
      for (const std::string& line : questions_for_the_family(sepllm::read_file(entry.path())))
        ADD_FAILURE() << path << ": " << line;
    }
  }
  EXPECT_EQ(questions_for_the_family("if (c.family == \"gpt2\")\nx = config.family() != f;\n").size(), 2U);
  EXPECT_TRUE(questions_for_the_family("family = name;\nSEPLLM_CHECK(my_family != nullptr);\n").empty());
}

TEST(IncludeArrows, AWrongArrowIsFound) {
  const auto includes = [](const std::string& path, const std::string& file) {
    return wrong_arrows(path, "// text\n#include <vector>\n  #  include \"" + file + "\"  // why\n");
  };
  EXPECT_EQ(includes("src/kernels/x.cc", "model/decoder.h"),
            std::vector<std::string>{"src/kernels/x.cc: includes \"model/decoder.h\""});
  // Upwards, sideways, and the arrows that the design names.
  EXPECT_FALSE(includes("src/base/x.h", "tensor/view.h").empty());
  EXPECT_FALSE(includes("src/attention/x.cc", "text/tokenizer.h").empty());
  EXPECT_FALSE(includes("src/text/x.cc", "kernels/linear/linear.h").empty());
  EXPECT_FALSE(includes("src/cache/x.cc", "kernels/attention/attention.h").empty());
  EXPECT_FALSE(includes("src/checkpoint/x.cc", "attention/pattern.h").empty());
  EXPECT_FALSE(includes("src/model/x.cc", "text/tokenizer.h").empty());
  EXPECT_FALSE(includes("src/model/families/x.cc", "engine/session.h").empty());
  EXPECT_FALSE(includes("src/engine/x.cc", "server/http.h").empty());
  EXPECT_FALSE(includes("src/engine/x.cc", "train/trainer.h").empty());
  EXPECT_FALSE(includes("src/train/x.cc", "engine/session.h").empty());
  EXPECT_FALSE(includes("src/capi/x.cc", "train/trainer.h").empty());
  EXPECT_FALSE(includes("src/engine/x.cc", "capi/guard.h").empty());
  EXPECT_FALSE(includes("src/engine/x.cc", "apps/shell/common.h").empty());
  EXPECT_FALSE(includes("src/base/x.cc", "tests/support/support.h").empty());
  EXPECT_FALSE(includes("apps/x.cc", "tests/support/support.h").empty());
  EXPECT_FALSE(includes("src/kernels/x.cc", "apps/bench/turns.h").empty());
  EXPECT_FALSE(includes("src/base/x.cc", "x.h").empty());  // paths start at src/
  EXPECT_FALSE(includes("src/other/x.cc", "base/error.h").empty());
  EXPECT_FALSE(includes("src/x.cc", "base/error.h").empty());
}

TEST(IncludeArrows, RightArrowsPass) {
  const auto passes = [](const std::string& path, const std::string& file) {
    return wrong_arrows(path, "#include \"" + file + "\"\n").empty();
  };
  EXPECT_TRUE(passes("src/base/x.cc", "base/error.h"));
  EXPECT_TRUE(passes("src/model/families/x.cc", "model/config.h"));
  EXPECT_TRUE(passes("src/model/x.cc", "tensor/context.h"));  // through ops
  EXPECT_TRUE(passes("src/ops/x.cc", "cache/kv_cache.h"));
  EXPECT_TRUE(passes("src/engine/x.cc", "text/tokenizer.h"));
  EXPECT_TRUE(passes("apps/x.cc", "engine/session.h"));
  EXPECT_TRUE(passes("src/text/x_test.cc", "tests/support/support.h"));
  EXPECT_TRUE(passes("apps/x_test.cc", "tests/support/support.h"));
}

}  // namespace
