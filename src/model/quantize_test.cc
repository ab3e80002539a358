#include "model/quantize.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/file.h"
#include "checkpoint/safetensors.h"
#include "checkpoint/weight_store.h"
#include "model/random_model.h"
#include "tests/support/expect_error.h"
#include "tests/support/golden.h"
#include "tests/support/support.h"

namespace sepllm {
namespace {

namespace fs = std::filesystem;
using test::expect_error;
using test::TemporaryFolder;

QuantizeReport quantize(const std::string& model, DType type, const std::string& out,
                        const std::function<bool(int64_t, int64_t)>& progress = {}) {
  ThreadPool pool(2);
  return quantize_model(model, type, out, pool, progress);
}

std::vector<std::string> names_in(const std::string& folder) {
  std::vector<std::string> out;
  for (const auto& entry : fs::directory_iterator(folder)) out.push_back(entry.path().filename());
  std::sort(out.begin(), out.end());
  return out;
}

// Logits of a prompt (products of many rows) and of tokens after it (of one).
test::Logits logits(const std::string& model, const WeightOptions& options = {}) {
  test::Runner runner(model, 1, options);
  const auto vocab = static_cast<int32_t>(runner.vocab_size());
  std::vector<int32_t> ids;
  for (int32_t i = 0; i < 48; ++i) ids.push_back((i * 37 + 11) % vocab);
  KvCache cache = runner.cache(Policy{}, TokenSet(vocab));
  test::Logits out = runner.chunked(std::span(ids).first(44), cache, 44);
  for (const float x : runner.chunked(std::span(ids).subspan(44), cache, 1)) out.push_back(x);
  return out;
}

// Checkpoints that transformers saved (tied, sharded, with Conv1D, without prefixes, in f16 and bf16, rows of
// no whole blocks), then read from the folder and converted at load.
TEST(Quantize, TheFolderGivesTheLogitsOfConversionAtLoad) {
  for (const std::string& name : test::golden_models()) {
    const std::string model = test::golden_model(name);
    const TemporaryFolder folder;
    for (const DType type : kBlockTypes) {
      const std::string out = folder.file(dtype_name(type));
      const QuantizeReport report = quantize(model, type, out);
      EXPECT_GT(report.n_converted, 0) << name;
      EXPECT_LT(report.bytes_after, report.bytes_before) << name;
      EXPECT_EQ(logits(out), logits(model, {.type = type})) << name << " " << dtype_name(type);
      EXPECT_EQ(read_model_spec(out).blocks, type);
    }
  }
}

void expect_logits_of_conversion_at_load(const std::string& model) {
  const TemporaryFolder folder;
  for (const DType type : kBlockTypes) {
    quantize(model, type, folder.file(dtype_name(type)));
    EXPECT_EQ(logits(folder.file(dtype_name(type))), logits(model, {.type = type})) << model;
  }
}

TEST(Quantize, ARealModel) {
  SEPLLM_DATA_OR_SKIP(data);
  for (const char* name : {"/derived/stories260k-hf", "/derived/tiny-random-gpt2-hf"})
    expect_logits_of_conversion_at_load(data + name);
}

TEST(Quantize, TheEmbeddedModel) {
  SEPLLM_EMBEDDED_MODEL_OR_SKIP(model);
  expect_logits_of_conversion_at_load(model);
}

TEST(Quantize, OtherFloatsToo) {
  for (const char* variant : {"llama-tied", "gpt2"}) {
    const TemporaryFolder folder;
    write_random_model(folder.file("m"), {.variant = variant, .n_shards = 2});
    for (const DType type : {DType::kBF16, DType::kF16}) {
      const std::string out = folder.file(dtype_name(type));
      quantize(folder.file("m"), type, out);
      // GPT-2's floats stay [n_in, n_out], for which the sums have another order.
      EXPECT_LE(test::max_difference(logits(out), logits(folder.file("m"), {.type = type})),
                variant == std::string("gpt2") ? 1e-5F : 0.0F);
      EXPECT_FALSE(read_model_spec(out).blocks);
      EXPECT_EQ(parse_json(read_file(out + "/config.json"), "config")["torch_dtype"],
                type == DType::kF16 ? "float16" : "bfloat16");
    }
  }
}

TEST(Quantize, WhatStandsInTheFolder) {
  const TemporaryFolder folder;
  write_random_model(folder.file("m"), {.variant = "gpt2", .hidden_size = 48, .n_shards = 3});
  for (const char* name : {"generation_config.json", "chat_template.jinja", "LICENSE", ".secret", "notes.py"})
    folder.write(std::string("m/") + name, "{}");
  const QuantizeReport report = quantize(folder.file("m"), DType::kQ4_0, folder.file("q"));
  EXPECT_EQ(names_in(folder.path()), (std::vector<std::string>{"m", "q"}));
  std::vector<std::string> expected = names_in(folder.file("m"));
  std::erase(expected, ".secret");
  std::erase(expected, "notes.py");
  EXPECT_EQ(names_in(folder.file("q")), expected);
  const Json config = parse_json(read_file(folder.file("q/config.json")), "config.json");
  EXPECT_EQ(config["quantization_config"],
            (Json{{"quant_method", "sepllm"}, {"type", "q4_0"}, {"block_size", 32}}));
  EXPECT_EQ(config["n_embd"], 48);

  const WeightStore from = WeightStore::open(folder.file("m")), to = WeightStore::open(folder.file("q"));
  EXPECT_EQ(from.names(), to.names());
  EXPECT_EQ(report.n_tensors, static_cast<int64_t>(to.names().size()));
  EXPECT_EQ(report.n_converted, 1 + 3 * 4);
  EXPECT_EQ(report.n_padded, 1 + 3 * 3);  // rows of 48, but for the MLP's second
  EXPECT_EQ(report.bytes_before, from.total_bytes());
  EXPECT_EQ(report.bytes_after, to.total_bytes());
  const auto stored = [&](const std::string& name, const std::string& dtype, std::vector<int64_t> shape) {
    EXPECT_EQ(to.tensor(name).dtype, dtype) << name;
    EXPECT_EQ(to.tensor(name).shape, shape) << name;
  };
  stored("transformer.wte.weight", "U8", {258, 2 * 34});
  stored("transformer.h.0.attn.c_attn.weight", "U8", {144, 2 * 18});  // was [48, 144]
  stored("transformer.h.0.mlp.c_proj.weight", "U8", {48, 6 * 18});
  stored("transformer.wpe.weight", "F32", {512, 48});
  stored("transformer.h.0.attn.c_attn.bias", "F32", {144});
}

// The file need not be aligned; nothing but one matrix is to be in memory.
TEST(Quantize, TensorsThatLieUnaligned) {
  const TemporaryFolder folder;
  write_random_model(folder.file("m"), {});
  const std::string before = read_file(folder.file("m/model.safetensors"));
  const auto header = static_cast<unsigned char>(before[0]) + 256 * static_cast<unsigned char>(before[1]);
  std::string moved = before;
  moved.insert(static_cast<size_t>(8 + header), " ");
  moved[0] = static_cast<char>((header + 1) & 255);
  moved[1] = static_cast<char>((header + 1) / 256);
  const test::Logits expected = logits(folder.file("m"), {.type = DType::kQ8_0});
  folder.write("m/model.safetensors", moved);
  quantize(folder.file("m"), DType::kQ8_0, folder.file("q"));
  EXPECT_EQ(logits(folder.file("q")), expected);
}

class QuantizeFaults : public testing::Test {
 protected:
  QuantizeFaults() { write_random_model(model_, {.hidden_size = 32, .n_layers = 2, .n_shards = 2}); }
  void expect_nothing_written() const {
    EXPECT_EQ(names_in(folder_.path()), (std::vector<std::string>{"m"}));
  }

  TemporaryFolder folder_;
  std::string model_ = folder_.file("m"), out_ = folder_.file("q");
};

TEST_F(QuantizeFaults, TargetsThatAreThere) {
  expect_error([&] { quantize(model_, DType::kQ8_0, model_); }, ErrorCode::kInvalidArgument,
               {model_, "already exists", "a new folder"});
  expect_error([&] { quantize(model_, DType::kQ8_0, model_ + "/"); }, ErrorCode::kInvalidArgument,
               {"already exists"});
  fs::create_directory_symlink(model_, out_);
  expect_error([&] { quantize(model_, DType::kQ8_0, out_); }, ErrorCode::kInvalidArgument,
               {"already exists"});
  fs::remove(out_);
  folder_.write("q", "");
  expect_error([&] { quantize(model_, DType::kQ8_0, out_); }, ErrorCode::kInvalidArgument,
               {"already exists"});
  fs::remove(out_);
  expect_error([&] { quantize(model_, DType::kQ8_0, folder_.file("absent/q")); }, ErrorCode::kNotFound,
               {"absent/q", "cannot make the folder"});
  expect_nothing_written();
  fs::create_directory(out_);  // an empty one may be there
  EXPECT_NO_THROW(quantize(model_, DType::kQ8_0, out_));
  EXPECT_NO_THROW(logits(out_));
}

TEST_F(QuantizeFaults, SourcesThatAreNoModelOfFloats) {
  quantize(model_, DType::kQ8_0, folder_.file("q8"));
  for (const DType type : {DType::kQ4_0, DType::kQ8_0, DType::kF32}) {
    expect_error([&] { quantize(folder_.file("q8"), type, out_); }, ErrorCode::kInvalidArgument,
                 {"quantised already", "q8_0", "original weights"});
  }
  fs::remove_all(folder_.file("q8"));
  expect_error([&] { quantize(folder_.file("absent"), DType::kQ8_0, out_); }, ErrorCode::kNotFound,
               {"absent"});
  const std::string shard = "m/" + names_in(model_)[1];
  const std::string bytes = read_file(folder_.file(shard));
  folder_.write(shard, bytes.substr(0, bytes.size() - 1));
  EXPECT_THROW(quantize(model_, DType::kQ8_0, out_), Error);
  fs::remove(folder_.file(shard));
  EXPECT_THROW(quantize(model_, DType::kQ8_0, out_), Error);
  expect_nothing_written();
}

TEST_F(QuantizeFaults, WeightsThatAreNoNumbers) {
  const TemporaryFolder folder;
  write_random_model(folder.file("m"), {.hidden_size = 32, .n_layers = 1});
  std::string bytes = read_file(folder.file("m/model.safetensors"));
  const SafetensorsContent content = parse_safetensors(bytes, "m");
  const ptrdiff_t at = content.entries.at("model.layers.0.mlp.up_proj.weight").data - bytes.data();
  bytes.replace(static_cast<size_t>(at) + 4 * 32 * 7, 4, "\xff\xff\xff\x7f");
  folder.write("m/model.safetensors", bytes);
  expect_error([&] { quantize(folder.file("m"), DType::kQ4_0, folder.file("q")); }, ErrorCode::kBadFile,
               {"mlp.up_proj.weight, row 7", "NaN"});
  EXPECT_EQ(names_in(folder.path()), (std::vector<std::string>{"m"}));
}

TEST_F(QuantizeFaults, StoppedOnTheWay) {
  int calls = 0;
  expect_error([&] { quantize(model_, DType::kQ8_0, out_, [&](int64_t, int64_t) { return ++calls < 9; }); },
               ErrorCode::kInvalidArgument, {"interrupted", "nothing was written"});
  EXPECT_EQ(calls, 9);
  expect_nothing_written();
}

// A disk that is full at any point: the limit of a file's size fails as one does.
TEST_F(QuantizeFaults, DiskFull) {
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto old = std::signal(SIGXFSZ, SIG_IGN);
  for (const rlim_t size : {0, 5, 3000, 20'000}) {
    const rlimit limit{size, before.rlim_max};
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &limit), 0);
    try {
      quantize(model_, DType::kQ8_0, out_);
      ADD_FAILURE() << "written in spite of the limit";
    } catch (const Error& e) {
      EXPECT_NE(std::string(e.what()).find("cannot write"), std::string::npos) << e.what();
    }
    ::setrlimit(RLIMIT_FSIZE, &before);
    expect_nothing_written();
  }
  std::signal(SIGXFSZ, old);
}

// Killed after any tensor, no folder of that name is there; the next run makes it.
TEST_F(QuantizeFaults, Killed) {
  for (const int after : {1, 5, 15}) {
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      int calls = 0;
      ThreadPool pool(1);
      quantize_model(model_, DType::kQ8_0, out_, pool, [&](int64_t, int64_t) {
        if (++calls == after) std::raise(SIGKILL);
        return true;
      });
      ::_exit(0);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status));
    EXPECT_FALSE(file_exists(out_));
  }
  EXPECT_NO_THROW(quantize(model_, DType::kQ8_0, out_));
  EXPECT_NO_THROW(logits(out_));
}

TEST_F(QuantizeFaults, TheSourceMayBeReadOnly) {
  for (const std::string& name : names_in(model_)) ::chmod((model_ + "/" + name).c_str(), 0444);
  ::chmod(model_.c_str(), 0555);
  EXPECT_NO_THROW(quantize(model_, DType::kQ8_0, out_));
  EXPECT_EQ(fs::status(out_ + "/tokenizer.json").permissions() & fs::perms::owner_write,
            fs::perms::owner_write);
  ::chmod(model_.c_str(), 0755);
}

// A folder of blocks that was damaged on its way.
class DamagedBlocks : public testing::TestWithParam<DType> {
 protected:
  DamagedBlocks() {
    write_random_model(folder_.file("m"), {.hidden_size = 32, .n_layers = 1, .n_heads = 2});
    quantize(folder_.file("m"), GetParam(), out_);
    weights_ = read_file(out_ + "/model.safetensors");
  }
  void load() const { load_weights(out_, read_model_spec(out_)); }
  void expect_refused(ErrorCode code, const std::vector<std::string>& parts) const {
    expect_error([&] { load(); }, code, parts);
  }
  // Writes the weights again with this tensor replaced by `n` bytes as `dtype` and `shape`.
  void replace(const std::string& name, const std::string& dtype, const std::vector<int64_t>& shape,
               size_t n) {
    const SafetensorsContent content = parse_safetensors(weights_, "weights");
    const std::string zeros(n, '\0');
    std::vector<SafetensorsTensor> tensors;
    for (const auto& [own, entry] : content.entries) {
      if (own == name) {
        tensors.push_back({own, dtype, shape, zeros.data()});
      } else {
        tensors.push_back({own, entry.dtype, entry.shape, entry.data});
      }
    }
    write_safetensors(out_ + "/model.safetensors", tensors);
  }
  void write_config(const Json& quantization) {
    Json config = parse_json(read_file(folder_.file("m/config.json")), "config.json");
    if (!quantization.is_null()) config["quantization_config"] = quantization;
    folder_.write("q/config.json", config.dump());
  }

  TemporaryFolder folder_;
  std::string out_ = folder_.file("q");
  std::string weights_;
};

TEST_P(DamagedBlocks, TruncatedAtAnyLength) {
  for (size_t n = 0; n < weights_.size(); n += n < 3000 ? 61 : 509) {
    folder_.write("q/model.safetensors", weights_.substr(0, n));
    EXPECT_THROW(load(), Error) << n;
  }
  folder_.write("q/model.safetensors", weights_ + "x");
  EXPECT_THROW(load(), Error);
}

TEST_P(DamagedBlocks, OtherShapesThanTheConfigSays) {
  const std::string up = "model.layers.0.mlp.up_proj.weight";
  const int64_t bytes = row_bytes(GetParam(), 32), rows = 96;
  const auto refused = [&](int64_t n_rows, int64_t n_bytes) {
    replace(up, "U8", {n_rows, n_bytes}, static_cast<size_t>(n_rows * n_bytes));
    expect_refused(ErrorCode::kBadFile, {"model.safetensors", up, "contradicts config.json",
                                         "expected [96, " + std::to_string(bytes) + "]",
                                         "got [" + std::to_string(n_rows) + ", " + std::to_string(n_bytes)});
  };
  refused(rows, bytes - 1);
  refused(rows, 2 * bytes);
  refused(rows, 0);
  refused(rows - 1, bytes);
  replace(up, "U8", {rows * bytes}, static_cast<size_t>(rows * bytes));
  expect_refused(ErrorCode::kBadFile, {up, "contradicts config.json"});
  replace(up, "U8", {rows, bytes}, static_cast<size_t>(rows * bytes));  // this is how it should be
  EXPECT_NO_THROW(load());
}

TEST_P(DamagedBlocks, OtherTypesThanTheConfigSays) {
  const std::string up = "model.layers.0.mlp.up_proj.weight";
  const int64_t bytes = row_bytes(GetParam(), 32);
  replace(up, "I8", {96, bytes}, static_cast<size_t>(96 * bytes));
  expect_refused(ErrorCode::kUnsupported, {up, "wrong dtype", "U8", dtype_name(GetParam()), "I8"});
  replace(up, "F32", {96, 32}, 96 * 32 * 4);
  expect_refused(ErrorCode::kUnsupported, {up, "wrong dtype", "U8", "F32"});
  replace("model.norm.weight", "U8", {32}, 32);
  expect_refused(ErrorCode::kUnsupported, {"model.norm.weight", "wrong dtype", "U8"});
}

TEST_P(DamagedBlocks, ConfigsThatSaySomethingElse) {
  const DType other = kBlockTypes[GetParam() == kBlockTypes[0] ? 1 : 0];
  const char* own = dtype_name(GetParam());
  write_config(
      {{"quant_method", "sepllm"}, {"type", dtype_name(other)}, {"block_size", block_elements(other)}});
  expect_refused(ErrorCode::kBadFile, {"weight", "contradicts config.json"});
  write_config({});  // floats, as before
  expect_refused(ErrorCode::kUnsupported, {"wrong dtype", "F32, F16, BF16 or F64", "U8"});
  write_config({{"quant_method", "sepllm"}, {"block_size", 32}});
  expect_refused(ErrorCode::kNotFound, {"config.json", "quantization_config.type", "missing"});
  write_config({{"quant_method", "sepllm"}, {"type", own}});
  expect_refused(ErrorCode::kNotFound, {"config.json", "quantization_config.block_size", "missing"});
  write_config({{"quant_method", "gptq"}, {"bits", 4}});
  expect_refused(ErrorCode::kUnsupported, {"quantization_config.quant_method", "gptq"});
  write_config("q8_0");
  expect_refused(ErrorCode::kBadFile, {"config.json", "quantization_config"});
  write_config({{"quant_method", "sepllm"}, {"type", own}, {"block_size", block_elements(GetParam())}});
  EXPECT_NO_THROW(load());
}

// Scales that are no numbers are found; every other value of a block's bytes is some number.
TEST_P(DamagedBlocks, AnyByte) {
  const size_t header = weights_.find_last_of('}', weights_.find("}}") + 2);
  ASSERT_LT(header, weights_.size());
  int refused = 0;
  for (size_t at = 0; at < weights_.size(); at += at < header ? 7 : 131) {
    std::string bytes = weights_;
    bytes[at] = static_cast<char>(bytes[at] ^ (1 << (at % 8)));
    folder_.write("q/model.safetensors", bytes);
    try {
      load();
    } catch (const Error&) {
      ++refused;
    }
  }
  EXPECT_GT(refused, static_cast<int>(header / 7 / 2));
}

INSTANTIATE_TEST_SUITE_P(Types, DamagedBlocks, testing::ValuesIn(kBlockTypes),
                         [](const auto& info) { return std::string(dtype_name(info.param)); });

}  // namespace
}  // namespace sepllm
