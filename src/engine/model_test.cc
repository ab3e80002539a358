#include "engine/model.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/json.h"
#include "model/random_model.h"
#include "tests/support/support.h"

namespace sepllm {
namespace {

// The one place that decides which tokens end a text: generate, chat and the scheduler's callers use it.
TEST(EndTokens, AreThoseOfTheConfigOrElseOfTheTokenizerToo) {
  const test::TemporaryFolder folder;
  write_random_model(folder.path(), {.hidden_size = 16, .n_layers = 1});
  const std::string path = folder.file("config.json");
  const Json good = parse_json(read_file(path), path);
  const auto end_tokens = [&](const Json& eos) {
    Json config = good;
    config.erase("eos_token_id");
    if (!eos.is_discarded()) config["eos_token_id"] = eos;
    folder.write("config.json", json_text(config));
    return load_model(folder.path(), "").end_tokens();
  };
  using Ids = std::vector<int32_t>;
  EXPECT_EQ(end_tokens(5), Ids{5});
  EXPECT_EQ(end_tokens({5, 7}), (Ids{5, 7}));
  // If the files do not say: the family's default (2 for Llama), if any, and the tokenizer's end of text.
  const Json absent(Json::value_t::discarded);
  EXPECT_EQ(end_tokens(nullptr), Ids{kByteTokenizerEos});
  EXPECT_EQ(end_tokens(absent), (Ids{2, kByteTokenizerEos}));
}

}  // namespace
}  // namespace sepllm
