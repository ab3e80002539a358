#include "train/train_config.h"

#include <gtest/gtest.h>

#include <string>

#include "tests/support/expect_error.h"

namespace sepllm {
namespace {

// What a checkpoint says of a run is read as a YAML file is.
TEST(TrainConfig, IsReadBackFromItsJson) {
  const Json json =
      Json::parse(R"({"family": "llama", "n_layers": 2, "hidden_size": 8, "n_heads": 2, "tokenizer": "t",
      "data": [{"path": "a", "weight": 2}, "b"], "valid_data": "c", "save": "run", "seq_length": 16, "train_steps": 7,
      "global_batch_size": 4, "lr": 1e-3, "policy": {"policy": "sep", "window": 5, "layer-window": "0=full"},
      "later_policy": "sink", "later_policy_step": 3, "sample_prompt": "once"})");
  const TrainConfig config = parse_train_config(json, "run.yaml");
  const Json whole = train_config_json(config);
  EXPECT_EQ(train_config_json(parse_train_config(whole, "checkpoint")), whole);
  EXPECT_EQ(whole["data"][0]["weight"], 2);
  EXPECT_EQ(whole["policy"]["window"], 5);
  Json from = json;
  for (const char* key :
       {"family", "n_layers", "hidden_size", "n_heads", "tokenizer", "later_policy", "later_policy_step"})
    from.erase(key);
  from["init_from"] = "folder";
  const Json begun = train_config_json(parse_train_config(from, "run.yaml"));
  EXPECT_EQ(train_config_json(parse_train_config(begun, "checkpoint")), begun);
  for (const char* family : {"gpt_neox", "gpt2", "falcon"}) {
    Json other = json;
    other["family"] = family;
    const Json all = train_config_json(parse_train_config(other, "run.yaml"));
    EXPECT_EQ(train_config_json(parse_train_config(all, "checkpoint")), all) << family;
  }
  from["n_layers"] = 2;
  test::expect_error([&] { parse_train_config(from, "run.yaml"); }, ErrorCode::kInvalidArgument,
                     {"n_layers"});
}

TEST(TrainConfig, EveryKeyIsInTheTable) {
  const std::string table = train_keys_markdown();
  TrainConfig config;
  config.later_policy_step = 1;
  config.valid_data = {{"a", 1}};
  for (const char* family : {"gpt_neox", "llama"}) {
    config.family = family;
    const Json json = train_config_json(config);
    for (const auto& [key, value] : json.items())
      EXPECT_NE(table.find("| `" + key + "` |"), std::string::npos) << key;
  }
}

}  // namespace
}  // namespace sepllm
