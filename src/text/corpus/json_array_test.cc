#include "text/corpus/json_array.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/json.h"
#include "tests/fuzz/document_inputs.h"
#include "tests/support/expect_error.h"
#include "tests/support/support.h"

namespace sepllm {
namespace {

using test::expect_error;
using Texts = std::vector<std::string>;

Texts array_texts(const std::string& file, const DocumentOptions& options, LineNotes* notes,
                  size_t* n_blocks) {
  DocumentReader reader({file}, options);
  Texts all;
  for (TextBlock block; reader.next(&block); ++*n_blocks) {
    EXPECT_LT(block.bytes.size(), size_t{1} << 20);  // an array is not held as a whole
    notes->add(
        for_each_document(block, options, [&](const DocumentPart& part) { all.emplace_back(part.text); }));
  }
  return all;
}

Texts array_texts(const std::string& file, const DocumentOptions& options = {}) {
  LineNotes notes;
  size_t n_blocks = 0;
  return array_texts(file, options, &notes, &n_blocks);
}

TEST(JsonArray, ElementsAreDocumentsHoweverTheyAreLaidOut) {
  const test::TemporaryFolder folder;
  Json all = Json::array();
  Texts want;
  for (int i = 0; i < 4000; ++i) {
    want.push_back(std::string(static_cast<size_t>(i) % 900, i % 2 == 0 ? '[' : ',') + "\\\"]}\n\u00e9" +
                   std::to_string(i));
    all.push_back({{"id", i}, {"deep", {{"a", {1, Json::object(), Json::array()}}}}, {"text", want.back()}});
  }
  for (const int indent : {-1, 0, 2}) {
    LineNotes notes;
    size_t n_blocks = 0;
    EXPECT_TRUE(array_texts(folder.write("a.json", all.dump(indent)), {}, &notes, &n_blocks) == want);
    EXPECT_GE(n_blocks, 5U);
    EXPECT_EQ(notes.odd, 0);
  }
  EXPECT_EQ(array_texts(folder.write("a.json", "[]")), Texts());
  EXPECT_EQ(array_texts(folder.write("a.json", " \n[ \n ] \n")), Texts());
  EXPECT_EQ(array_texts(folder.write("a.json", "\r\n\t [\r\n{\"text\":\"x\"}\r\n]\r\n")), Texts{"x"});
}

TEST(JsonArray, ErrorsNameTheElement) {
  const test::TemporaryFolder folder;
  const auto fails = [&](const std::string& content, const Texts& parts) {
    const std::string path = folder.write("a.json", content);
    expect_error([&] { array_texts(path); }, ErrorCode::kBadFile, parts);
  };
  const std::string one = "{\"text\": \"one\"}";
  fails("[" + one + ", {\"text\": null}]", {"a.json: element 2: text", "a string", "null"});
  fails("[" + one + ", {\"body\": \"x\"}]", {"a.json: element 2", "no key \"text\"", "body"});
  fails("[\n" + one + ",\n" + one + ",\n \"three\"\n]", {"element 3", "a JSON object", "three"});
  fails("[" + one + " " + one + "]", {"element 1", "something follows the value"});
  fails("[" + one + ",," + one + "]", {"element 2", "an empty element"});
  fails("[" + one + ",]", {"element 2", "an empty element"});
  fails("[,]", {"element 1", "an empty element"});
  fails("[" + one + ", {\"text\": \"tw", {"element 2", "cut off"});
  fails("[" + one, {"element 1", "cut off"});
  fails("[", {"cut off"});
  fails("[" + one + "] x", {"something follows the JSON array", "x"});
  fails("[" + one + "]\n[" + one + "]", {"something follows the JSON array"});
  fails("[{\"text\": \"a\nb\"}]", {"element 1", "a control character"});
  fails("[" + one + ", {\"text\": [\"a\"}]", {"element 2", "brackets that do not match"});
  fails("[{\"text\": \"a\"}}]", {"element 1", "brackets that do not match"});
}

TEST(JsonArray, BadElementsCanBeLeftOut) {
  const test::TemporaryFolder folder;
  const std::string path = folder.write(
      "a.json",
      R"([{"text": "one"}, {"text": 2}, 3, {"text": "f\ud83d"}, {"text": NaN}, {"text": "six", "x": NaN}])");
  LineNotes notes;
  size_t n_blocks = 0;
  EXPECT_EQ(array_texts(path, {.on_bad_line = OnBadLine::kSkip}, &notes, &n_blocks), (Texts{"one", "six"}));
  EXPECT_EQ(notes.skipped, 4);
  EXPECT_EQ(notes.odd, 1);
  EXPECT_NE(notes.first_skipped.find("a.json: element 2: text: wrong value"), std::string::npos);
  EXPECT_NE(notes.first_odd.find("a.json: element 6: x: NaN"), std::string::npos);
  notes = {};
  EXPECT_EQ(array_texts(path, {.on_bad_line = OnBadLine::kReplace}, &notes, &n_blocks),
            (Texts{"one", "f\ufffd", "six"}));
  EXPECT_EQ(notes.skipped, 3);
  EXPECT_EQ(notes.replaced, 1);
}

// Whatever byte is changed, the result does not depend on the pieces in which the array arrives.
TEST(JsonArray, EveryChangedByteIsReadOrRefused) {
  const std::string whole = R"( [{"text": "a\"b]"}, {"x": [1, {}], "text": "\\"}] )";
  ASSERT_TRUE(test::try_array(whole));
  size_t read = 0;
  for (size_t at = 0; at < whole.size(); ++at) {
    EXPECT_EQ(test::try_array(whole.substr(0, at)), at >= whole.size() - 1) << at;
    for (const char put : std::string_view("[]{},:\"\\ \nx1\xff\0", 15)) {
      std::string changed = whole;
      changed[at] = put;
      read += test::try_array(changed) ? 1 : 0;
    }
  }
  EXPECT_GT(read, 50U);
}

}  // namespace
}  // namespace sepllm
