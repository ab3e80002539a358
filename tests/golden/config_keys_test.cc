// Every key of a family's configuration class in transformers is either read, or known to change no number
// (make_config_keys_golden.py).
#include <gtest/gtest.h>

#include <set>
#include <string>
#include <utility>

#include "base/bytes.h"
#include "base/error.h"
#include "base/log.h"
#include "model/config_fields.h"
#include "model/families/family.h"
#include "model/random_model.h"
#include "tests/support/golden.h"

namespace sepllm::test {
namespace {

// What only concerns training by transformers, its own speed, heads of other tasks, or padding.
const std::set<std::string>& without_effect() {
  static const std::set<std::string> kKeys = {
      "attention_dropout",      "attn_pdrop",        "classifier_dropout", "embd_pdrop",
      "hidden_dropout",         "initializer_range", "is_decoder",         "pad_token_id",
      "pretraining_tp",         "resid_pdrop",       "summary_activation", "summary_first_dropout",
      "summary_proj_to_labels", "summary_type",      "summary_use_proj",   "use_cache"};
  return kKeys;
}

// A key is read if a value of a type that no key has is refused.
bool is_read(const Json& config, const std::string& key) {
  Json changed = config;
  changed[key] = Json::array({Json::array()});
  LogSink old = set_log_sink([](LogLevel, const std::string&) {});
  bool refused = false;
  try {
    parse_model_spec(changed, "config.json");
  } catch (const Error&) {
    refused = true;
  }
  set_log_sink(std::move(old));
  return refused;
}

TEST(ConfigKeys, EachIsReadOrChangesNoNumber) {
  const Json golden = read_json(golden_folder() + "/config_keys.json");
  for (const Family* family : families()) {
    ASSERT_TRUE(golden["families"].contains(family->name)) << family->name;
    const Json config = random_model_config({.variant = family->variants.front().name});
    for (const auto& [key, value] : golden["families"][family->name].items()) {
      EXPECT_NE(is_read(config, key), without_effect().contains(key)) << family->name << " " << key;
    }
  }
}

// What a config means: its hash and its ids; "refused" if it is refused.
std::string meaning(const Json& config) {
  LogSink old = set_log_sink([](LogLevel, const std::string&) {});
  std::string out = "refused";
  try {
    const ModelConfig c = parse_model_spec(config, "config.json").config;
    Hash64 hash;
    add_hash(&hash, c);
    const Json ids = {c.bos_token_id ? Json(*c.bos_token_id) : Json(), c.eos_token_ids, c.tied_embeddings};
    out = std::to_string(hash.value()) + ids.dump();
  } catch (const Error&) {
  }
  set_log_sink(std::move(old));
  return out;
}

// A key that is absent means the default of transformers' class. (Sizes that every config states must be
// there.)
TEST(ConfigKeys, AnAbsentKeyMeansTransformersDefault) {
  const Json golden = read_json(golden_folder() + "/config_keys.json");
  int n_compared = 0;
  for (const Family* family : families()) {
    Json config = random_model_config({.variant = family->variants.front().name});
    if (config.contains("num_attention_heads")) {
      config["num_attention_heads"] = 32;  // so that every default of the number of key heads divides it
      config["hidden_size"] = 128;
    }
    for (const auto& [key, value] : golden["families"][family->name].items()) {
      Json absent = config, stated = config;
      absent.erase(key);
      stated[key] = value;
      if (meaning(absent) == "refused") continue;
      EXPECT_EQ(meaning(absent), meaning(stated)) << family->name << " " << key << " " << value.dump();
      ++n_compared;
    }
  }
  EXPECT_GT(n_compared, 150);
}

}  // namespace
}  // namespace sepllm::test
