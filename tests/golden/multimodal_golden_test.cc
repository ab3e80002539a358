// The text models of multimodal checkpoints (make_multimodal_golden.py).
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "base/file.h"
#include "checkpoint/weight_store.h"
#include "checkpoint/weight_writer.h"
#include "model/copy_model.h"
#include "tests/support/captured_log.h"
#include "tests/support/golden.h"
#include "tests/support/support.h"

namespace sepllm::test {
namespace {

std::string multimodal_folder() { return golden_folder() + "/multimodal/gemma3"; }

// Largest difference from the logits of the same text model by itself.
float difference_from_text_model(const std::string& folder) {
  const GoldenFile golden(golden_model("gemma3_old") + "/golden.safetensors");
  Runner runner(folder);
  const auto n = static_cast<size_t>(runner.vocab_size());
  Policy full;
  full.kind = PolicyKind::kFull;
  const Logits all = runner.whole(golden.ints("ids"), full, TokenSet(runner.vocab_size()));
  Logits rows;
  for (const int32_t r : golden.ints("rows")) {
    const float* row = all.data() + static_cast<size_t>(r) * n;
    rows.insert(rows.end(), row, row + n);
  }
  return max_difference(rows, golden.floats("logits_full"));
}

TEST(MultimodalGolden, TheTextModelIsRead) {
  const CapturedLog log;
  EXPECT_LE(difference_from_text_model(multimodal_folder()), 1e-4F);
  EXPECT_EQ(log.lines(), std::vector<std::string>{
                             multimodal_folder() +
                             "/config.json: only the text model of this gemma3 is read: its other parts are "
                             "left out"});
  const ModelConfig c = read_model_spec(multimodal_folder()).config;
  EXPECT_EQ(c.family, "gemma3");
  EXPECT_EQ(c.eos_token_ids, (std::vector<int32_t>{7, 9}));  // of the whole model
}

// The names that transformers 5 gives the parts in memory, which some files have.
TEST(MultimodalGolden, WithTheOtherNames) {
  const TemporaryFolder folder;
  const WeightStore store = WeightStore::open(multimodal_folder());
  std::vector<StoredTensor> tensors;
  for (const std::string& name : store.names()) {
    StoredTensor t = store.tensor(name);
    const std::string old = "language_model.model.";
    t.name = name.starts_with(old) ? "model.language_model." + name.substr(old.size()) : "model." + name;
    tensors.push_back(std::move(t));
  }
  write_weight_file(folder.file("model.safetensors"), tensors);
  std::filesystem::copy_file(multimodal_folder() + "/config.json", folder.file("config.json"));
  const CapturedLog log;
  EXPECT_LE(difference_from_text_model(folder.path()), 1e-4F);
}

// What is trained from such a checkpoint is a text model.
TEST(MultimodalGolden, TheConfigOfTheTextModel) {
  const std::string path = multimodal_folder() + "/config.json";
  const Json text = text_model_config(read_json(path), path);
  EXPECT_EQ(text["model_type"], "gemma3_text");
  EXPECT_EQ(text["architectures"], Json::array({"Gemma3ForCausalLM"}));
  EXPECT_EQ(text["eos_token_id"], Json::array({7, 9}));
  EXPECT_FALSE(text.contains("vision_config"));
  EXPECT_EQ(parse_model_spec(text, "config.json").config.layer(0).window, 14);
  const Json other = read_json(golden_model("llama_gqa") + "/config.json");
  EXPECT_EQ(text_model_config(other, "config.json"), other);
}

// So is what is exported.
TEST(MultimodalGolden, TheExportIsATextModel) {
  const TemporaryFolder folder;
  ThreadPool pool(1);
  {
    const CapturedLog log;
    copy_model_to_folder(multimodal_folder(), {}, folder.path(), pool);
  }
  const CapturedLog log;
  EXPECT_LE(difference_from_text_model(folder.path()), 1e-4F);
  EXPECT_EQ(log.lines(), std::vector<std::string>());
  EXPECT_EQ(read_json(folder.file("config.json"))["model_type"], "gemma3_text");
}

}  // namespace
}  // namespace sepllm::test
