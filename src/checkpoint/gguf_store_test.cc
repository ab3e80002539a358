// GGUF files, whole and in parts, as a WeightStore.
#include <gtest/gtest.h>

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "base/file.h"
#include "checkpoint/weight_store.h"
#include "tests/support/expect_error.h"
#include "tests/support/gguf_bytes.h"
#include "tests/support/support.h"

namespace sepllm {
namespace {

using test::GgufBytes;
using test::raw_bytes;

TEST(GgufStore, OpensAFileByItsFirstBytes) {
  const test::TemporaryFolder folder;
  const std::string path = folder.write("model.bin", test::small_gguf().bytes());
  WeightStore store = WeightStore::open(path);
  EXPECT_EQ(store.names(), (std::vector<std::string>{"blocks", "ints", "matrix", "norm"}));
  EXPECT_EQ(store.folder(), path);
  ASSERT_NE(store.gguf(), nullptr);
  EXPECT_EQ(store.gguf()->string("general.architecture"), "llama");
  const TensorView norm = store.take("norm", {2});
  EXPECT_EQ(static_cast<const float*>(norm.data)[1], 2.0F);
  EXPECT_EQ(store.take_unaligned("matrix", {2, 3}).type, DType::kF16);
  EXPECT_EQ(store.unused_names(), (std::vector<std::string>{"blocks", "ints"}));

  const StoredTensor& blocks = store.take_stored("blocks", {2, 32});
  EXPECT_EQ(blocks.type, DType::kQ8_0);
  EXPECT_EQ(store.take_blocks("blocks", DType::kQ8_0, 2, 32), blocks.data);
  EXPECT_EQ(store.dtype_counts(),
            (std::map<std::string, int64_t>{{"F16", 1}, {"F32", 1}, {"I8", 1}, {"Q8_0", 1}}));
  store.forget("blocks");
  const WeightStore moved = std::move(store);
  EXPECT_EQ(moved.gguf()->integer("llama.block_count", 0, 9), 2);
}

TEST(GgufStore, WrongShapesAndTypesAreErrors) {
  const test::TemporaryFolder folder;
  const std::string path = folder.write("m.gguf", test::small_gguf().bytes());
  WeightStore store = WeightStore::open(path);
  const auto refused = [&](const auto& call, ErrorCode code, const std::vector<std::string>& parts) {
    test::expect_error([&] { call(); }, code, parts);
  };
  refused([&] { store.take("norm", {3}); }, ErrorCode::kBadFile,
          {path, "norm", "contradicts the metadata", "[3]", "[2]"});
  refused([&] { store.take("blocks", {2, 32}); }, ErrorCode::kUnsupported, {path, "blocks", "F32", "Q8_0"});
  refused([&] { store.take_stored("blocks", {32, 2}); }, ErrorCode::kBadFile, {"[32, 2]", "[2, 32]"});
  refused([&] { store.take_stored("ints", {3}); }, ErrorCode::kUnsupported, {"ints", "Q2_K to Q6_K", "I8"});
  refused([&] { store.take_blocks("blocks", DType::kQ4_0, 2, 32); }, ErrorCode::kUnsupported,
          {"blocks", "q4_0", "Q8_0"});
  refused([&] { store.take_stored("norms", {2}); }, ErrorCode::kNotFound, {"nearest name is norm"});
}

TEST(GgufStore, AFileThatIsNoneIsNamed) {
  const test::TemporaryFolder folder;
  const std::string path = folder.write("m.gguf", "not a model");
  test::expect_error([&] { WeightStore::open(path); }, ErrorCode::kInvalidArgument, {path, "not a folder"});
  const std::string cut = folder.write("cut.gguf", test::small_gguf().bytes().substr(0, 40));
  test::expect_error([&] { WeightStore::open(cut); }, ErrorCode::kBadFile, {cut});
}

// Parts that the gguf package wrote.
TEST(GgufStore, OpensAModelInPartsByTheFirst) {
  const std::string folder = std::string(SEPLLM_SOURCE_DIR) + "/tests/golden/gguf/";
  WeightStore store = WeightStore::open(folder + "split-00001-of-00003.gguf");
  EXPECT_EQ(store.names(), (std::vector<std::string>{"t0", "t1", "t2", "t3", "t4"}));
  EXPECT_EQ(store.gguf()->integer("t.u8", 0, 255), 255);
  for (int k = 0; k < 5; ++k) {
    const TensorView t = store.take("t" + std::to_string(k), {2, k + 1});
    EXPECT_EQ(static_cast<const float*>(t.data)[k], static_cast<float>(k));
  }
  test::expect_error([&] { WeightStore::open(folder + "split-00003-of-00003.gguf"); },
                     ErrorCode::kInvalidArgument, {"part 3 of 3", "give ", "split-00001-of-00003.gguf"});
}

// A model "m" of two parts.
struct Parts {
  test::TemporaryFolder folder;
  GgufBytes first, second;
  Parts() {
    first.text("general.architecture", "llama");
    for (GgufBytes* part : {&first, &second}) {
      const uint16_t number = part == &first ? 0 : 1;
      part->key("split.no", GgufType::kU16, raw_bytes(number));
      part->key("split.count", GgufType::kU16, raw_bytes(uint16_t{2}));
      part->key("split.tensors.count", GgufType::kI32, raw_bytes(int32_t{2}));
      part->tensor(part == &first ? "a" : "b", {1}, 0, raw_bytes(1.0F));
    }
  }
  std::string path(int index) const {
    return folder.file("m-0000" + std::to_string(index) + "-of-00002.gguf");
  }
  void write() const {
    write_file_atomically(path(1), first.bytes());
    write_file_atomically(path(2), second.bytes());
  }
  void expect_refused(ErrorCode code, const std::vector<std::string>& parts) const {
    write();
    test::expect_error([&] { WeightStore::open(path(1)); }, code, parts);
  }
};

TEST(GgufStore, PartsThatAreMissingOrOfAnotherModelAreErrors) {
  const Parts good;
  good.write();
  EXPECT_EQ(WeightStore::open(good.path(1)).names().size(), 2U);

  const std::string renamed = good.folder.write("m.gguf", good.first.bytes());
  test::expect_error([&] { WeightStore::open(renamed); }, ErrorCode::kBadFile,
                     {renamed, "one of 2 parts", "-00001-of-00002.gguf"});
  const test::TemporaryFolder only_one;
  const std::string first_part = only_one.write("m-00001-of-00002.gguf", good.first.bytes());
  test::expect_error([&] { WeightStore::open(first_part); }, ErrorCode::kNotFound,
                     {first_part, "part 2 of 2", "m-00002-of-00002.gguf"});

  Parts order;
  order.second.keys[0].value = raw_bytes(uint16_t{0});
  order.expect_refused(ErrorCode::kBadFile, {order.path(2), "split.no", "expected 1", "got 0"});
  Parts count;
  count.second.keys[1].value = raw_bytes(uint16_t{3});
  count.expect_refused(ErrorCode::kBadFile, {count.path(2), "split.count", "expected 2", "got 3"});
  Parts unsplit;
  unsplit.second.keys.clear();
  unsplit.expect_refused(ErrorCode::kNotFound, {unsplit.path(2), "split.count"});
  Parts few;
  few.first.keys[3].value = raw_bytes(int32_t{3});
  few.expect_refused(ErrorCode::kBadFile, {few.path(1), "split.tensors.count", "expected 3", "got 2"});
  Parts twice;
  twice.second.tensors[0].name = "a";
  twice.expect_refused(ErrorCode::kBadFile, {"a", "two shards", twice.path(1), twice.path(2)});
  Parts number;
  number.first.keys[1].value = raw_bytes(uint16_t{2});
  number.expect_refused(ErrorCode::kBadFile, {"split.no", "0 to 1", "2"});
}

}  // namespace
}  // namespace sepllm
