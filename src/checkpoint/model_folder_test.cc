#include "checkpoint/model_folder.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "checkpoint/foreign_weights.h"
#include "checkpoint/safetensors.h"
#include "checkpoint/weight_store.h"
#include "tests/support/expect_error.h"
#include "tests/support/support.h"

namespace sepllm {
namespace {

using test::expect_error;

constexpr float kNumbers[4] = {1, 2, 3, 4};

// A folder with these files, given as a model.
void expect_named(const std::vector<std::pair<std::string, std::string>>& files,
                  const std::vector<std::string>& parts) {
  const test::TemporaryFolder folder;
  for (const auto& [name, content] : files) folder.write(name, content);
  SCOPED_TRACE(files.empty() ? "no file" : files.front().first);
  expect_error([&] { WeightStore::open(folder.path()); }, ErrorCode::kUnsupported, parts);
}

TEST(ModelFolder, AdaptersAreNamedWithTheirBase) {
  const char* config = R"({"peft_type":"LORA","base_model_name_or_path":"org/base-7b","r":8})";
  const std::vector<std::string> parts = {"an adapter", "LoRA", "merge_and_unload", "org/base-7b"};
  expect_named({{"adapter_model.safetensors", "x"}, {"adapter_config.json", config}}, parts);
  expect_named({{"adapter_model.bin", "x"}, {"adapter_config.json", config}}, parts);
  expect_named({{"adapter_model.safetensors", "x"}}, {"an adapter", "base model with"});
  for (const char* bad :
       {"", "{", "[]", R"({"base_model_name_or_path":7})", R"({"base_model_name_or_path":null})"})
    expect_named({{"adapter_config.json", bad}}, {"an adapter", "base model with"});
}

TEST(ModelFolder, OtherFormatsAreNamed) {
  const std::vector<std::string> torch = {"PyTorch", "save_pretrained", "model.safetensors"};
  for (const char* name : {"pytorch_model.bin", "pytorch_model-00001-of-00002.bin",
                           "pytorch_model.bin.index.json", "model.pth", "weights.pt", "other.bin"})
    expect_named({{name, "x"}}, torch);
  expect_named({{"last.ckpt", "x"}}, {"checkpoint of another program", "last.ckpt"});
  expect_named({{"consolidated.00.pth", "x"}, {"params.json", "{}"}}, {"Meta", "consolidated.00.pth"});
  expect_named({{"tf_model.h5", "x"}}, {"TensorFlow", "tf_model.h5"});
  expect_named({{"flax_model.msgpack", "x"}}, {"Flax"});
  expect_named({{"model.onnx", "x"}}, {"ONNX"});
  expect_named({{"weights.npz", "x"}}, {"NumPy"});
  expect_named({{"model-q4_0.gguf", "x"}}, {"GGUF", "model-q4_0.gguf"});
  expect_named({{"model_index.json", "{}"}}, {"diffusers"});
  // With several formats, the advice begins from PyTorch's weights.
  expect_named({{"flax_model.msgpack", "x"}, {"pytorch_model.bin", "x"}, {"tf_model.h5", "x"}}, torch);
}

TEST(ModelFolder, SafetensorsThatAreNotFound) {
  expect_named({{"model-00001-of-00002.safetensors", "x"}, {"model-00002-of-00002.safetensors", "x"}},
               {"without their index", "model.safetensors.index.json"});
  expect_named({{"consolidated.safetensors", "x"}}, {"another name", "consolidated.safetensors"});
}

TEST(ModelFolder, NothingOfAModel) {
  const test::TemporaryFolder folder;
  folder.write("README.md", "x");
  expect_error([&] { WeightStore::open(folder.path()); }, ErrorCode::kNotFound, {"no model in the folder"});
  std::filesystem::create_directories(folder.file("models--a--b/snapshots/c0ffee"));
  std::filesystem::create_directories(folder.file("models--a--b/blobs"));
  expect_error([&] { WeightStore::open(folder.file("models--a--b")); }, ErrorCode::kInvalidArgument,
               {"cache of the Hugging Face Hub", "models--a--b/snapshots/c0ffee"});
  expect_error([&] { WeightStore::open(folder.file("none")); }, ErrorCode::kNotFound,
               {"no such model folder"});
}

TEST(ModelFolder, AFileIsNamedByItsKind) {
  const test::TemporaryFolder folder;
  const auto refused = [&](const std::string& bytes, const std::vector<std::string>& parts) {
    expect_error([&] { check_model_folder(folder.write("f", bytes)); }, ErrorCode::kInvalidArgument, parts);
  };
  refused(std::string("GGUF\3\0\0\0", 8), {"not a folder", "a GGUF file"});
  refused("PK\3\4....", {"not a folder", "a ZIP archive"});
  refused("some text", {"not a folder", "config.json"});
}

struct Foreign {
  const char* format;
  std::vector<SafetensorsTensor> tensors;
};

// Tensor names as the programs write them.
std::vector<Foreign> foreign_weights() {
  const std::string l = "model.layers.0.self_attn.q_proj.";
  return {
      {"GPTQ",
       {{l + "qweight", "I32", {1, 1}, kNumbers},
        {l + "qzeros", "I32", {1, 1}, kNumbers},
        {l + "scales", "F16", {1, 2}, kNumbers},
        {l + "g_idx", "I32", {1}, kNumbers}}},
      {"AWQ",
       {{l + "qweight", "I32", {1, 1}, kNumbers},
        {l + "qzeros", "I32", {1, 1}, kNumbers},
        {l + "scales", "F16", {1, 2}, kNumbers}}},
      {"bitsandbytes, 4 bits",
       {{l + "weight", "U8", {4, 1}, kNumbers},
        {l + "weight.absmax", "F32", {1}, kNumbers},
        {l + "weight.quant_map", "F32", {1}, kNumbers},
        {l + "weight.quant_state.bitsandbytes__nf4", "U8", {4}, kNumbers}}},
      {"bitsandbytes, 8 bits", {{l + "weight", "I8", {2, 2}, kNumbers}, {l + "SCB", "F32", {1}, kNumbers}}},
      {"FP8 in blocks",
       {{l + "weight", "F8_E4M3", {2, 2}, kNumbers}, {l + "weight_scale_inv", "F32", {1}, kNumbers}}},
      {"FP8 or 8-bit",
       {{l + "weight", "F8_E4M3", {2, 2}, kNumbers}, {l + "weight_scale", "F32", {1}, kNumbers}}},
      {"compressed-tensors", {{l + "weight_packed", "I32", {1, 1}, kNumbers}}},
      {"LoRA",
       {{l + "lora_A.weight", "F32", {2, 2}, kNumbers}, {l + "base_layer.weight", "F32", {2, 2}, kNumbers}}},
  };
}

TEST(ForeignWeights, AreNamedByTheirTensors) {
  for (const Foreign& f : foreign_weights()) {
    SCOPED_TRACE(f.format);
    const test::TemporaryFolder folder;
    write_safetensors(folder.file("model.safetensors"), f.tensors);
    WeightStore store = WeightStore::open(folder.path());
    expect_error(
        [&] {
          store.take("model.layers.0.self_attn.q_proj.weight", {2, 2});
        },
        ErrorCode::kUnsupported,
        {folder.path(), "model.layers.0.self_attn.q_proj.weight", f.format, "sepllm quantize"});
  }
}

// Such names next to plain weights do not prevent loading, and a tensor that is merely missing is reported as
// missing.
TEST(ForeignWeights, PlainWeightsBesideThemAreTaken) {
  const test::TemporaryFolder folder;
  write_safetensors(folder.file("model.safetensors"),
                    {{"a.weight", "F32", {2, 2}, kNumbers}, {"b.qweight", "I32", {1}, kNumbers}});
  WeightStore store = WeightStore::open(folder.path());
  EXPECT_EQ(static_cast<const float*>(store.take("a.weight", {2, 2}).data)[1], 2.0F);
  EXPECT_FALSE(
      foreign_format({"model.layers.0.mlp.up_proj.weight", "lm_head.weight", "transformer.h.0.attn.bias"}));
}

TEST(ForeignWeights, QuantizersHaveNames) {
  EXPECT_EQ(quantizer_name("gptq"), "GPTQ");
  EXPECT_EQ(quantizer_name("bitsandbytes"), "bitsandbytes");
  EXPECT_EQ(quantizer_name("a new one"), "a new one");
}

}  // namespace
}  // namespace sepllm
