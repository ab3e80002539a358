// Models written as GGUF and read again, and GGUF files written as folders: the same numbers, and the same
// config.
#include "model/copy_model.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/file.h"
#include "checkpoint/gguf.h"
#include "checkpoint/weight_store.h"
#include "model/gguf/architecture.h"
#include "model/gguf/spec.h"
#include "model/random_model.h"
#include "tests/support/expect_error.h"
#include "tests/support/golden.h"
#include "tests/support/support.h"

namespace sepllm {
namespace {

namespace fs = std::filesystem;
using test::expect_error;
using test::TemporaryFolder;

// Variants of families for which GGUF has no form.
const std::set<std::string> kOnlyFolders = {"falcon-rw", "gemma3", "mistral", "qwen2-windows", "smollm3"};

std::string random_model(const TemporaryFolder& folder, const std::string& variant) {
  write_random_model(folder.file(variant), {.variant = variant});
  return folder.file(variant);
}

QuantizeReport to_gguf(const std::string& model, const std::string& out, std::optional<DType> type = {}) {
  ThreadPool pool(2);
  return copy_model_to_gguf(model, {.type = type}, {}, out, pool);
}

void to_folder(const std::string& model, const std::string& out, std::optional<DType> type = {}) {
  ThreadPool pool(2);
  fs::create_directory(out);
  copy_model_to_folder(model, {.type = type}, out, pool);
}

test::Logits copied_logits(const std::string& model, const WeightOptions& options = {}) {
  test::Runner runner(model, 1, options);
  const auto vocab = static_cast<int32_t>(runner.vocab_size());
  std::vector<int32_t> ids;
  for (int32_t i = 0; i < 24; ++i) ids.push_back((i * 37 + 11) % vocab);
  return runner.whole(ids, Policy{}, TokenSet(vocab));
}

class CopiedVariant : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override { model_ = random_model(folder_, GetParam()); }
  TemporaryFolder folder_;
  std::string model_;
};

TEST_P(CopiedVariant, GgufGivesTheSameLogits) {
  const std::string file = folder_.file("model.gguf");
  const QuantizeReport report = to_gguf(model_, file);
  EXPECT_EQ(report.n_converted, 0);
  // (GPT-2's own checkpoints have their matrices transposed, which another kernel multiplies.)
  EXPECT_LE(test::max_difference(copied_logits(file), copied_logits(model_)), 1e-5F);
}

TEST_P(CopiedVariant, BlocksAreThoseThatTheProgramMakes) {
  for (const DType type : {DType::kQ8_0, DType::kQ4_0, DType::kF16, DType::kBF16}) {
    const std::string file = folder_.file("model.gguf");
    to_gguf(model_, file, type);
    EXPECT_EQ(copied_logits(file), copied_logits(model_, {.type = type})) << dtype_name(type);
    fs::remove(file);
  }
}

TEST_P(CopiedVariant, TheWayBackGivesTheSameTensorsAndConfig) {
  const std::string file = folder_.file("model.gguf"), back = folder_.file("back");
  to_gguf(model_, file);
  to_folder(file, back);
  const WeightStore a = WeightStore::open(model_), b = WeightStore::open(back);
  const std::vector<std::string> names = a.names();
  EXPECT_EQ(b.names(), names);
  for (const std::string& name : names) {
    const StoredTensor &x = a.tensor(name), &y = b.tensor(name);
    EXPECT_EQ(x.shape, y.shape) << name;
    EXPECT_EQ(std::string_view(x.data, static_cast<size_t>(x.bytes)),
              std::string_view(y.data, static_cast<size_t>(y.bytes)))
        << name;
  }
  const ModelConfig c = read_model_spec(model_).config, d = read_model_spec(back).config;
  EXPECT_EQ(c.max_positions, d.max_positions);
  EXPECT_EQ(c.norm_eps, d.norm_eps);
  EXPECT_EQ(c.ropes.size(), d.ropes.size());
  for (size_t k = 0; k < c.ropes.size(); ++k) EXPECT_EQ(c.ropes[k].inv_freq, d.ropes[k].inv_freq);
}

// Whether an architecture of GGUF is written for the variant's family.
bool has_architecture(const std::string& variant) {
  const std::string family =
      parse_model_spec(random_model_config({.variant = variant}), "config.json").config.family;
  const auto& all = gguf_architectures();
  return std::any_of(all.begin(), all.end(), [&](const GgufArchitecture* a) {
    const std::vector<std::string> names(a->families.begin(), a->families.end());
    return std::find(names.begin(), names.end(), family) != names.end();
  });
}

std::vector<std::string> gguf_variants() {
  std::vector<std::string> out;
  for (const std::string& variant : random_model_variants()) {
    if (kOnlyFolders.count(variant) == 0 && has_architecture(variant)) out.push_back(variant);
  }
  return out;
}

INSTANTIATE_TEST_SUITE_P(All, CopiedVariant, testing::ValuesIn(gguf_variants()), [](const auto& variant) {
  std::string name = variant.param;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

TEST(CopyModel, WhatGgufCannotSayIsRefused) {
  const TemporaryFolder folder;
  const std::string out = folder.file("model.gguf");
  expect_error([&] { to_gguf(random_model(folder, "falcon-rw"), out); }, ErrorCode::kUnsupported,
               {"falcon-rw", "ALiBi"});
  write_random_model(folder.file("dynamic"),
                     {.extra_config = {{"rope_scaling", {{"rope_type", "dynamic"}, {"factor", 2.0}}}}});
  expect_error([&] { to_gguf(folder.file("dynamic"), out); }, ErrorCode::kUnsupported, {"rope type dynamic"});
  EXPECT_FALSE(file_exists(out));
}

// Windows and layers without rope for which the format has no keys, and the patterns that it takes for
// granted.
TEST(CopyModel, PatternsOfLayers) {
  const TemporaryFolder folder;
  const std::string out = folder.file("model.gguf");
  const auto refused = [&](const std::string& variant, const char* part) {
    expect_error([&] { to_gguf(random_model(folder, variant), out); }, ErrorCode::kUnsupported, {part});
  };
  refused("gemma3", "query_pre_attn_scalar");
  refused("smollm3", "every fourth");
  refused("mistral", "sliding window");
  refused("qwen2-windows", "sliding window");
  const Json gemma = {{"sliding_window_pattern", 6}, {"query_pre_attn_scalar", 32}};
  const std::pair<const char*, Json> known[] = {{"gemma3", gemma},
                                                {"smollm3", {{"no_rope_layer_interval", 4}}},
                                                {"mistral", {{"sliding_window", nullptr}}}};
  for (const auto& [variant, config] : known) {
    const std::string model = folder.file(std::string(variant) + "-known");
    write_random_model(model, {.variant = variant, .n_layers = 7, .extra_config = config});
    to_gguf(model, out);
    EXPECT_LE(test::max_difference(copied_logits(out), copied_logits(model)), 1e-5F) << variant;
    const std::string back = model + "-back";
    to_folder(out, back);
    EXPECT_LE(test::max_difference(copied_logits(back), copied_logits(model)), 1e-5F) << variant;
    fs::remove(out);
  }
}

TEST(CopyModel, ScaledPositionsSurvive) {
  const Json kScalings[] = {
      {{"rope_type", "linear"}, {"factor", 3.0}},
      {{"rope_type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 128}},
      {{"rope_type", "llama3"},
       {"factor", 8.0},
       {"low_freq_factor", 1.0},
       {"high_freq_factor", 4.0},
       {"original_max_position_embeddings", 64}}};
  for (const Json& scaling : kScalings) {
    const TemporaryFolder folder;
    const std::string model = folder.file("model"), file = folder.file("model.gguf");
    write_random_model(model, {.extra_config = {{"rope_scaling", scaling}}});
    to_gguf(model, file);
    EXPECT_EQ(copied_logits(file), copied_logits(model)) << json_text(scaling);
  }
}

TEST(CopyModel, FilesOfSeveralPartsAreOneModel) {
  const TemporaryFolder folder;
  const std::string model = random_model(folder, "llama"), file = folder.file("model.gguf");
  to_gguf(model, file);
  const WeightStore store = WeightStore::open(file);
  const std::vector<std::string> names = store.names();
  for (size_t part = 0; part < 2; ++part) {
    GgufFields fields;
    if (part == 0) {
      fields.text("general.architecture", "llama");
      for (const auto& [key, value] : store.gguf()->values()) {
        if (!key.starts_with("llama.")) continue;
        if (value.type == GgufType::kF32) {
          fields.f32(key, static_cast<float>(*value.number()));
        } else {
          fields.u32(key, static_cast<uint32_t>(*value.integer()));
        }
      }
    }
    fields.u32("split.no", static_cast<uint32_t>(part));
    fields.u32("split.count", 2);
    fields.u32("split.tensors.count", static_cast<uint32_t>(names.size()));
    std::vector<StoredTensor> tensors;
    for (size_t k = part; k < names.size(); k += 2) tensors.push_back(store.tensor(names[k]));
    GgufWriter writer(folder.file(part == 0 ? "m-00001-of-00002.gguf" : "m-00002-of-00002.gguf"), fields,
                      tensors);
    for (const StoredTensor& t : tensors) writer.write(t.data);
    writer.commit();
  }
  EXPECT_EQ(copied_logits(folder.file("m-00001-of-00002.gguf")), copied_logits(model));
  expect_error([&] { copied_logits(folder.file("m-00002-of-00002.gguf")); }, ErrorCode::kInvalidArgument,
               {"m-00001-of-00002"});
}

// --- What contradicts itself, or is not known ---

// A small valid file with one key left out, replaced or added.
class ChangedGguf {
 public:
  ChangedGguf() {
    to_gguf(random_model(folder_, "llama"), folder_.file("model.gguf"));
    store_ = WeightStore::open(folder_.file("model.gguf"));
  }
  // `change` gets the copied fields, `without` is the key that is not copied.
  std::string write(const std::string& without, const std::function<void(GgufFields&)>& change,
                    const std::string& without_tensor = "") const {
    GgufFields fields;
    for (const auto& [key, value] : store_.gguf()->values()) {
      if (key == without) continue;
      if (value.type == GgufType::kString) fields.text(key, *value.text());
      if (value.type == GgufType::kF32) fields.f32(key, static_cast<float>(*value.number()));
      if (value.type == GgufType::kU32) fields.u32(key, static_cast<uint32_t>(*value.integer()));
    }
    change(fields);
    std::vector<StoredTensor> tensors;
    for (const std::string& name : store_.names()) {
      if (name != without_tensor) tensors.push_back(store_.tensor(name));
    }
    const std::string path = folder_.file("changed.gguf");
    GgufWriter writer(path, fields, tensors);
    for (const StoredTensor& t : tensors) writer.write(t.data);
    writer.commit();
    return path;
  }
  void expect(ErrorCode code, const std::vector<std::string>& parts, const std::string& without,
              const std::function<void(GgufFields&)>& change, const std::string& without_tensor = "") const {
    const std::string path = write(without, change, without_tensor);
    expect_error([&] { Decoder::load(path); }, code, parts);
  }

 private:
  TemporaryFolder folder_;
  WeightStore store_;
};

TEST(CopyModel, ContradictionsAndUnknownThingsAreErrors) {
  const ChangedGguf file;
  const auto none = [](GgufFields&) {};
  file.expect(ErrorCode::kUnsupported, {"general.architecture", "bloom", "one of llama"},
              "general.architecture", [](GgufFields& f) { f.text("general.architecture", "bloom"); });
  file.expect(ErrorCode::kNotFound, {"general.architecture"}, "general.architecture", none);
  file.expect(ErrorCode::kNotFound, {"llama.block_count"}, "llama.block_count", none);
  file.expect(ErrorCode::kNotFound, {"blk.3"}, "llama.block_count",
              [](GgufFields& f) { f.u32("llama.block_count", 4); });
  file.expect(ErrorCode::kBadFile, {"blk.0.ffn", "contradicts the metadata"}, "llama.feed_forward_length",
              [](GgufFields& f) { f.u32("llama.feed_forward_length", 96); });
  file.expect(ErrorCode::kBadFile, {"llama.attention.head_count"}, "llama.attention.head_count",
              [](GgufFields& f) { f.u32("llama.attention.head_count", 0); });
  file.expect(ErrorCode::kUnsupported, {"llama.expert_count"}, "",
              [](GgufFields& f) { f.u32("llama.expert_count", 8); });
  file.expect(ErrorCode::kUnsupported, {"llama.rope.scaling.type", "none, linear or yarn"}, "",
              [](GgufFields& f) { f.text("llama.rope.scaling.type", "su"); });
  file.expect(ErrorCode::kNotFound, {"token_embd.weight"}, "", none, "token_embd.weight");
  file.expect(ErrorCode::kNotFound, {"blk.1.attn_k.weight"}, "", none, "blk.1.attn_k.weight");
}

}  // namespace
}  // namespace sepllm
