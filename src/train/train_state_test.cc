#include "train/train_state.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "base/file.h"
#include "tests/support/expect_error.h"
#include "tests/support/support.h"
#include "train/new_model.h"
#include "train/spike_guard.h"

namespace sepllm {
namespace {

using test::expect_error;
using test::TemporaryFolder;

class TrainStateTest : public ::testing::Test {
 protected:
  static ModelSpec spec(int64_t n_heads = 1) { return parse_model_spec(json(n_heads), "the model"); }
  static Json json(int64_t n_heads = 1) {
    TrainConfig config;
    config.n_layers = 1;
    config.hidden_size = config.intermediate_size = 4;
    config.n_heads = n_heads;
    config.rotary_pct = 1;
    config.seq_length = 8;
    return new_model_config(config, 6, -1, -1);
  }
  static void fill(Learner* learner) {
    initialise(&learner->parameters(), learner->spec(), "pythia", 3);
    learner->scatter_moments(Learner::Moment::kFirst,
                             [](std::span<float> piece) { std::fill(piece.begin(), piece.end(), 0.25F); });
  }

  static TrainState state(int64_t step) {
    TrainState state;
    state.step = step;
    state.position = {7};
    state.data_fingerprint = 9;
    state.model_config = json();
    return state;
  }

  TemporaryFolder folder_;
  ThreadPool pool_{1};
  Learner learner_{spec(), pool_};
};

TEST_F(TrainStateTest, EveryCutAndEveryChangedByteIsRefusedBeforeTheModelIsTouched) {
  fill(&learner_);
  const std::string path = folder_.file("step-000000005.ckpt");
  save_checkpoint(path, state(5), learner_);
  const std::string bytes = read_file(path);
  Learner other(spec(), pool_);
  const auto load = [&path](Learner* learner) {
    const OpenCheckpoint checkpoint(path, *learner);
    load_checkpoint(&checkpoint, learner);
    return checkpoint.state().step;
  };
  EXPECT_EQ(load(&other), 5);
  EXPECT_EQ(other.parameters().data()[0], learner_.parameters().data()[0]);
  other.gather_moments(Learner::Moment::kFirst, [](std::span<const float> piece) {
    for (const float m : piece) ASSERT_EQ(m, 0.25F);
  });
  other.parameters().data()[0] = 3;
  // Written without sync, because there are so many files.
  const auto refused = [&](const std::string& content) {
    std::FILE* file = std::fopen(path.c_str(), "wb");
    std::fwrite(content.data(), 1, content.size(), file);
    std::fclose(file);
    try {
      load(&other);
      return false;
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ErrorCode::kBadFile) << e.what();
      return true;
    }
  };
  for (size_t n = 0; n < bytes.size(); ++n) ASSERT_TRUE(refused(bytes.substr(0, n))) << n;
  for (size_t at = 0; at < bytes.size(); ++at) {
    std::string changed = bytes;
    changed[at] = static_cast<char>(changed[at] ^ (1 << at % 8));
    ASSERT_TRUE(refused(changed)) << at;
  }
  EXPECT_EQ(other.parameters().data()[0], 3);
}

// Two heads instead of one: the same tensors, but another model.
TEST_F(TrainStateTest, AnotherModelOfTheSameShapesIsRefused) {
  const std::string path = folder_.file("a.ckpt");
  save_checkpoint(path, state(1), learner_);
  Learner two(spec(2), pool_);
  expect_error([&] { OpenCheckpoint(path, two); }, ErrorCode::kInvalidArgument, {"another model"});
  // What a checkpoint says must have the right types, even if the checksum is right.
  TrainState wide = state(1);
  wide.model_config["hidden_size"] = "wide";
  save_checkpoint(path, wide, learner_);
  expect_error([&] { OpenCheckpoint(path, learner_); }, ErrorCode::kBadFile, {"hidden_size"});
}

TEST_F(TrainStateTest, LeftoversAreRemovedAndNothingElse) {
  for (const char* name : {"step-000000001.ckpt.tmp.12.0", "run.json.tmp.1.22"}) folder_.write(name, "x");
  for (const char* name : {"step-000000001.ckpt", "a.tmp", "a.tmp.1", "a.tmp.1.", "a.tmp.x.1", "a.tmp.1.2x"})
    folder_.write(name, "x");
  std::filesystem::create_directories(folder_.file("model.tmp.3.1/inside"));
  remove_leftovers(folder_.file(""));
  size_t left = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(folder_.file(""))) ++left;
  EXPECT_EQ(left, 6U);
}

// A JSON header that its writer did not write: each fault is an Error that names the key.
TEST(CheckpointHeader, WrongTypesAreErrors) {
  const Json good = {{"kind", "training checkpoint"},
                     {"step", 3},
                     {"position", {1, 2}},
                     {"data", uint64_t{7}},
                     {"model_config", {{"a", 1}}},
                     {"settings", {{"b", 2}}},
                     {"progress", {{"tokens", 5}}}};
  const TrainState state = parse_checkpoint_header(good, "f");
  EXPECT_EQ(state.position, (TokenData::Position{1, 2}));
  EXPECT_EQ(state.data_fingerprint, 7U);
  for (const char* key : {"kind", "step", "position", "data"}) {
    for (const Json& wrong :
         std::vector<Json>{nullptr, "x", 1e300, -1, NAN, true, {{"a", 1}}, {1, "x"}, {1e300}}) {
      Json bad = good;
      bad[key] = wrong;
      test::expect_error([&] { parse_checkpoint_header(bad, "f"); }, ErrorCode::kBadFile, {"f"});
    }
  }
  for (const auto& [key, unused] : good.items()) {
    Json bad = good;
    bad.erase(key);
    EXPECT_THROW(parse_checkpoint_header(bad, "f"), Error) << key;
  }
  Json later = good;  // the first version had no version number
  later["version"] = 2;
  test::expect_error([&] { parse_checkpoint_header(later, "f"); }, ErrorCode::kUnsupported,
                     {"f", "a training checkpoint of a newer version of sepllm", "expected version 1, got 2",
                      "the version of sepllm that wrote it can continue it"});
}

TEST(SpikeGuard, LeavesOutSpikesAndLearnsWhatStays) {
  SpikeGuard guard(6);
  for (int i = 0; i < 100; ++i) EXPECT_TRUE(guard.accept(1, 1 + 0.01 * (i % 5))) << i;
  EXPECT_FALSE(guard.accept(1, 10));
  EXPECT_TRUE(guard.accept(1, 1.02));
  // From here on all norms are ten times as large: ten steps are left out, then the new norms are normal.
  int left_out = 0;
  for (int i = 0; i < 60; ++i) {
    SpikeGuard copy(6);
    const Json saved = guard.state();
    copy.set_state(JsonObject(saved, "f"));  // as after a resume
    const double norm = 10 + 0.1 * (i % 5);
    const bool taken = guard.accept(1, norm);
    EXPECT_EQ(copy.accept(1, norm), taken);
    EXPECT_EQ(copy.state(), guard.state());
    left_out += taken ? 0 : 1;
  }
  EXPECT_EQ(left_out, 10);
  EXPECT_FALSE(guard.accept(1, 100));
}

TEST(SpikeGuard, CountsWhatIsNoNumber) {
  SpikeGuard guard(0);
  EXPECT_TRUE(guard.accept(1, 1e30));
  EXPECT_FALSE(guard.accept(NAN, 1));
  EXPECT_FALSE(guard.accept(1, HUGE_VAL));
  EXPECT_EQ(guard.not_finite_in_a_row(), 2);
  EXPECT_TRUE(guard.accept(1, 1));
  EXPECT_EQ(guard.not_finite_in_a_row(), 0);
}

}  // namespace
}  // namespace sepllm
