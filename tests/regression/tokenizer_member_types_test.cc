// A vocabulary or merges of the wrong type in tokenizer.json were called an unknown key.
#include "base/file.h"
#include "tests/support/cli.h"

namespace sepllm::test {
namespace {

TEST(TokenizerMemberTypes, AreNamed) {
  const TemporaryFolder folder;
  write_byte_tokenizer(folder.path());
  const std::string path = folder.file("tokenizer.json");
  const Json good = parse_json(read_file(path), path);
  const auto refused = [&](const char* key, const Json& value, const char* expected) {
    Json bad = good;
    bad["model"][key] = value;
    write_file_atomically(path, bad.dump());
    expect_failure({"tokenize", "--tokenizer", path, "--text", "a"},
                   {path, std::string("model.") + key, "wrong type", expected});
  };
  refused("merges", nullptr, "a list");
  refused("merges", Json::object(), "a list");
  refused("vocab", Json::array(), "a JSON object");
  refused("vocab", 7, "a JSON object");
}

}  // namespace
}  // namespace sepllm::test
