// Two small models that others trained or published, with published outputs.
#include <gtest/gtest.h>

#include <algorithm>

#include "base/file.h"
#include "tests/support/golden.h"
#include "tests/support/support.h"

namespace sepllm::test {
namespace {

constexpr float kStoriesTolerance = 1e-4F;

std::vector<int32_t> ids_of(const Json& list) { return list.get<std::vector<int32_t>>(); }

std::string joined(const std::vector<int32_t>& ids) {
  std::string out;
  for (const int32_t id : ids) out += (out.empty() ? "" : ",") + std::to_string(id);
  return out;
}

// Appends the most likely token n times.
void continue_greedily(Runner& runner, std::vector<int32_t>* ids, size_t n) {
  const auto vocab = static_cast<size_t>(runner.vocab_size());
  KvCache cache = runner.cache(Policy{}, TokenSet(runner.vocab_size()));
  Logits logits = runner.chunked(*ids, cache, 512);
  for (size_t k = 0; k < n; ++k) {
    const float* last = logits.data() + logits.size() - vocab;
    ids->push_back(static_cast<int32_t>(std::max_element(last, last + vocab) - last));
    logits = runner.chunked({&ids->back(), 1}, cache, 1);
  }
}

TEST(Stories260k, LogitsAndTokens) {
  SEPLLM_DATA_OR_SKIP(data);
  const Json golden = read_json(data + "/derived/stories260k_golden.json");
  Runner runner(data + "/derived/stories260k-hf");
  const std::vector<int32_t> expected = ids_of(golden["ids_with_bos"]);
  const Json& rows = golden["logits_positions_0_to_15"];
  const Logits logits = runner.whole(std::span(expected).first(rows.size()), Policy{}, TokenSet(512));
  for (size_t r = 0; r < rows.size(); ++r) {
    const auto row = rows[r].get<std::vector<float>>();
    EXPECT_LE(max_difference(row, std::span(logits).subspan(r * row.size(), row.size())), kStoriesTolerance)
        << "row " << r;
  }
  std::vector<int32_t> ids = {expected[0]};
  continue_greedily(runner, &ids, expected.size() - 1);
  EXPECT_EQ(ids, expected);
}

TEST(Stories260k, TheProgramTellsThePublishedStory) {
  SEPLLM_DATA_OR_SKIP(data);
  const ProgramResult result = run_sepllm({"generate", "--model", data + "/derived/stories260k-hf",
                                           "--tokenizer", data + "/weights/stories260k/tok512.bin",
                                           "--prompt", "", "-n", "256", "--temp", "0", "--json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const Json json = parse_json(result.out, "stdout");
  EXPECT_EQ(json["text"].get<std::string>(), read_file(data + "/expected/stories260k_greedy_256.txt"));
  std::vector<int32_t> expected =
      ids_of(read_json(data + "/derived/stories260k_golden.json")["ids_with_bos"]);
  EXPECT_EQ(json["prompt_tokens"], 1);
  expected.erase(expected.begin());
  EXPECT_EQ(ids_of(json["ids"]), expected);
}

TEST(TinyRandomGpt2, Logits) {
  SEPLLM_DATA_OR_SKIP(data);
  Runner runner(data + "/derived/tiny-random-gpt2-hf");
  const Json cases = read_json(data + "/derived/tiny_random_gpt2_golden.json")["cases"];
  ASSERT_FALSE(cases.empty());
  for (const Json& one : cases) {
    const std::vector<int32_t> ids = ids_of(one["input_ids"]);
    const Logits logits = runner.whole(ids, Policy{}, TokenSet(runner.vocab_size()));
    const auto last = one["last_position_logits"].get<std::vector<float>>();
    EXPECT_LE(max_difference(last, std::span(logits).last(last.size())), kStoriesTolerance) << joined(ids);
  }
}

TEST(TinyRandomGpt2, TheProgramGivesThePublishedTokens) {
  SEPLLM_DATA_OR_SKIP(data);
  const Json greedy = read_json(data + "/expected/tiny_random_gpt2_tokens.json")["greedy"];
  for (size_t k = 0; k < greedy["input_ids"].size(); ++k) {
    const std::vector<int32_t> prompt = ids_of(greedy["input_ids"][k]);
    std::vector<int32_t> expected = ids_of(greedy["expected"][k]);
    expected.erase(expected.begin(), expected.begin() + static_cast<std::ptrdiff_t>(prompt.size()));
    const ProgramResult result =
        run_sepllm({"generate", "--model", data + "/derived/tiny-random-gpt2-hf", "--prompt-ids",
                    joined(prompt), "-n", std::to_string(expected.size()), "--temp", "0", "--json"});
    ASSERT_EQ(result.exit_code, 0) << result.err;
    EXPECT_EQ(ids_of(parse_json(result.out, "stdout")["ids"]), expected);
  }
}

}  // namespace
}  // namespace sepllm::test
