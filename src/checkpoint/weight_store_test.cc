#include "checkpoint/weight_store.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "base/json.h"
#include "checkpoint/safetensors.h"
#include "tests/support/expect_error.h"
#include "tests/support/support.h"

namespace sepllm {
namespace {

using test::expect_error;

constexpr float kValues[8] = {1, 2, 3, 4, 5, 6, 7, 8};
constexpr const char* kIndex = "model.safetensors.index.json";

void write_shard(const std::string& path, const std::vector<std::string>& names) {
  std::vector<SafetensorsTensor> tensors;
  for (const std::string& n : names) tensors.push_back({n, "F32", {2, 2}, kValues});
  write_safetensors(path, tensors);
}

std::string index_of(const std::vector<std::pair<std::string, std::string>>& map) {
  Json weight_map = Json::object();
  for (const auto& [tensor, shard] : map) weight_map[tensor] = shard;
  return Json{{"metadata", {{"total_size", 32}}}, {"weight_map", weight_map}}.dump();
}

// A folder of two shards, a.safetensors with "a" and b.safetensors with "b".
struct Sharded {
  test::TemporaryFolder folder;
  Sharded() {
    write_shard(folder.file("a.safetensors"), {"a"});
    write_shard(folder.file("b.safetensors"), {"b"});
    index({{"a", "a.safetensors"}, {"b", "b.safetensors"}});
  }
  void index(const std::vector<std::pair<std::string, std::string>>& map) const {
    folder.write(kIndex, index_of(map));
  }
  void expect_refused(ErrorCode code, const std::vector<std::string>& parts) const {
    expect_error([&] { WeightStore::open(folder.path()); }, code, parts);
  }
};

TEST(WeightStore, TakesTensorsOfOneFile) {
  const test::TemporaryFolder folder;
  write_shard(folder.file("model.safetensors"), {"x", "y"});
  WeightStore store = WeightStore::open(folder.path());
  EXPECT_EQ(store.names(), (std::vector<std::string>{"x", "y"}));
  EXPECT_EQ(store.total_bytes(), 32);
  EXPECT_EQ(store.dtype_counts().at("F32"), 2);
  const TensorView x = store.take("x", {2, 2});
  EXPECT_EQ(static_cast<const float*>(x.data)[3], 4.0F);
  EXPECT_EQ(store.unused_names(), std::vector<std::string>{"y"});
  EXPECT_EQ(store.copied_bytes(), 0);
  const WeightStore moved = std::move(store);
  EXPECT_EQ(static_cast<const float*>(x.data)[0], 1.0F);
}

TEST(WeightStore, TakesTensorsOfShards) {
  const Sharded s;
  WeightStore store = WeightStore::open(s.folder.path());
  EXPECT_EQ(static_cast<const float*>(store.take("b", {2, 2}).data)[1], 2.0F);
  EXPECT_NE(store.tensor("a").file, store.tensor("b").file);
}

TEST(WeightStore, AMissingTensorNamesTheNearest) {
  const test::TemporaryFolder folder;
  write_shard(folder.file("model.safetensors"), {"layers.0.norm.weight", "embed"});
  WeightStore store = WeightStore::open(folder.path());
  expect_error(
      [&] {
        store.take("layers.0.norm.bias", {2, 2});
      },
      ErrorCode::kNotFound, {"layers.0.norm.bias", "missing", "nearest name is layers.0.norm.weight"});
  expect_error([&] { store.take("wte", {2, 2}); }, ErrorCode::kNotFound, {"wte", "2 tensors, such as embed"});
}

TEST(WeightStore, WrongShapesAndTypesAreErrors) {
  const test::TemporaryFolder folder;
  write_safetensors(folder.file("model.safetensors"),
                    {{"f", "F32", {2, 2}, kValues}, {"i", "I32", {2}, kValues}});
  WeightStore store = WeightStore::open(folder.path());
  expect_error([&] { store.take("f", {4}); }, ErrorCode::kBadFile, {"f", "expected [4]", "got [2, 2]"});
  expect_error([&] { store.take("i", {2}); }, ErrorCode::kUnsupported, {"i", "F32, F16, BF16 or F64", "I32"});
}

TEST(WeightStore, UnalignedTensorsAreCopied) {
  // By hand: a byte before the floats, which our writer would put last.
  const std::string header =
      R"({"odd":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"f":{"dtype":"F32","shape":[2],"data_offsets":[1,9]}})";
  std::string bytes(8, '\0');
  bytes[0] = static_cast<char>(header.size());
  bytes += header + "x" + std::string(reinterpret_cast<const char*>(kValues), 8);
  const test::TemporaryFolder folder;
  folder.write("model.safetensors", bytes);
  WeightStore store = WeightStore::open(folder.path());
  ASSERT_NE(reinterpret_cast<uintptr_t>(store.tensor("f").data) % 4, 0U) << "the fixture must be unaligned";
  const TensorView f = store.take("f", {2});
  EXPECT_EQ(reinterpret_cast<uintptr_t>(f.data) % 4, 0U);
  EXPECT_EQ(static_cast<const float*>(f.data)[1], 2.0F);
  EXPECT_EQ(store.copied_bytes(), 8);
}

TEST(WeightStore, FoldersWithoutWeightsAreErrors) {
  const test::TemporaryFolder folder;
  expect_error([&] { WeightStore::open(folder.file("none")); }, ErrorCode::kNotFound,
               {"no such model folder"});
  expect_error([&] { WeightStore::open(folder.path()); }, ErrorCode::kNotFound, {"model.safetensors"});
  folder.write("pytorch_model.bin", "x");
  expect_error([&] { WeightStore::open(folder.file("pytorch_model.bin")); }, ErrorCode::kInvalidArgument,
               {"not a folder"});
}

TEST(WeightStore, ShardsOutsideTheFolderAreErrors) {
  const test::TemporaryFolder outside;
  write_shard(outside.file("x.safetensors"), {"a"});
  const Sharded s;
  for (const std::string& name :
       {std::string("../x.safetensors"), outside.file("x.safetensors"), std::string(".."), std::string("."),
        std::string(""), std::string("sub/x.safetensors"), std::string("a.safetensors\0.txt", 18)}) {
    s.index({{"a", name}});
    s.expect_refused(ErrorCode::kBadFile, {kIndex, "outside the model's folder"});
  }
}

// A folder of links into another one, absolute or relative, or through a linked folder.
TEST(WeightStore, LinksToShardsElsewhereAreRead) {
  const test::TemporaryFolder other;
  write_shard(other.file("a.safetensors"), {"a"});
  write_shard(other.file("b.safetensors"), {"b"});
  const test::TemporaryFolder folder;
  std::filesystem::create_symlink(other.file("a.safetensors"), folder.file("a.safetensors"));
  std::filesystem::create_symlink(std::filesystem::relative(other.file("b.safetensors"), folder.path()),
                                  folder.file("b.safetensors"));
  folder.write(kIndex, index_of({{"a", "a.safetensors"}, {"b", "b.safetensors"}}));
  const WeightStore store = WeightStore::open(folder.path());
  EXPECT_TRUE(store.has("a") && store.has("b"));
  const test::TemporaryFolder third;
  std::filesystem::create_directory_symlink(folder.path(), third.file("m"));
  EXPECT_TRUE(WeightStore::open(third.file("m")).has("b"));
  std::filesystem::create_symlink(other.file("gone"), folder.file("c.safetensors"));
  folder.write(kIndex, index_of({{"a", "a.safetensors"}, {"c", "c.safetensors"}}));
  expect_error([&] { WeightStore::open(folder.path()); }, ErrorCode::kNotFound,
               {"c.safetensors", "missing", "a link to", "gone"});
}

TEST(WeightStore, TheLinksOfAHubCacheAreRead) {
  const test::TemporaryFolder hub;
  const std::string folder = hub.file("models--a--b/snapshots/123");
  std::filesystem::create_directories(folder);
  std::filesystem::create_directories(hub.file("models--a--b/blobs"));
  write_shard(hub.file("models--a--b/blobs/abc"), {"a"});
  std::filesystem::create_symlink("../../blobs/abc", folder + "/s.safetensors");
  write_file_atomically(folder + "/" + kIndex, index_of({{"a", "s.safetensors"}}));
  EXPECT_TRUE(WeightStore::open(folder).has("a"));
}

TEST(WeightStore, ContradictionsOfIndexAndShardsAreErrors) {
  const Sharded s;
  s.index({{"a", "a.safetensors"}, {"b", "c.safetensors"}});
  s.expect_refused(ErrorCode::kNotFound, {"c.safetensors", "missing"});
  write_shard(s.folder.file("b.safetensors"), {"a", "b"});
  s.index({{"a", "a.safetensors"}, {"b", "b.safetensors"}});
  s.expect_refused(ErrorCode::kBadFile, {"a tensor in two shards", "a"});
}

TEST(WeightStore, StaleEntriesOfAnIndexAreListed) {
  const Sharded s;
  EXPECT_TRUE(WeightStore::open(s.folder.path()).stale_names().empty());
  s.index({{"a", "a.safetensors"}, {"b", "b.safetensors"}, {"z", "b.safetensors"}, {"y", "a.safetensors"}});
  WeightStore store = WeightStore::open(s.folder.path());
  EXPECT_EQ(store.stale_names(), (std::vector<std::string>{"y", "z"}));
  EXPECT_EQ(store.names(), (std::vector<std::string>{"a", "b"}));
  expect_error([&] { store.take("z", {2, 2}); }, ErrorCode::kNotFound, {"z", "missing"});
  s.index({{"a", "b.safetensors"}, {"b", "a.safetensors"}});
  store = WeightStore::open(s.folder.path());
  EXPECT_EQ(store.stale_names(), (std::vector<std::string>{"a", "b"}));
  EXPECT_TRUE(store.tensor("a").file.ends_with("a.safetensors")) << "what the files hold counts";
}

TEST(WeightStore, BadIndexesAreErrors) {
  const Sharded s;
  for (const char* text : {"", "[]", "{}", R"({"weight_map":{}})", R"({"weight_map":[]})",
                           R"({"weight_map":{"a":1}})", R"({"weight_map":{"a":"a.safetensors","a":"b"}})"}) {
    s.folder.write(kIndex, text);
    s.expect_refused(ErrorCode::kBadFile, {kIndex});
  }
}

// Error or success, never anything else.
TEST(WeightStore, EveryTruncationAndMutationOfAnIndexIsHandled) {
  const Sharded s;
  const std::string text = index_of({{"a", "a.safetensors"}, {"b", "b.safetensors"}});
  int n_fine = 0;
  const auto open = [&](const std::string& content) {
    s.folder.write(kIndex, content);
    try {
      WeightStore::open(s.folder.path());
      ++n_fine;
    } catch (const Error&) {
    }
  };
  for (size_t n = 0; n < text.size(); ++n) open(text.substr(0, n));
  EXPECT_EQ(n_fine, 0) << "a truncated index passed";
  for (size_t i = 0; i < text.size(); ++i) {
    for (const int flip : {1, 4, 32, 128}) {
      std::string mutated = text;
      mutated[i] = static_cast<char>(mutated[i] ^ flip);
      open(mutated);
    }
  }
  EXPECT_GT(n_fine, 0) << "changes of total_size do not matter";
}

}  // namespace
}  // namespace sepllm
