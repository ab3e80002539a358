// `compute`: mixed precision in `sepllm train`.
#include "kernels/cpu_features.h"
#include "tests/support/train_run.h"

namespace sepllm::test {
namespace {

class TrainCompute : public TrainRun {
 protected:
  void SetUp() override {
    TrainRun::SetUp();
    if (!cpu_has_bf16_products()) GTEST_SKIP() << "this processor has no products of bf16";
  }
  // Fails the test if the program fails.
  void run(const std::string& name, const Strings& settings, const std::string& before = "") const {
    ASSERT_EQ(shell().run(before, train(name, with_sets(settings))), 0) << shell().err();
  }
  static Strings with_sets(const Strings& settings) {
    Strings out;
    for (const std::string& s : settings) out = out + Strings{"--set", s};
    return out;
  }
  Json settings_of(const std::string& name) const {
    return parse_json(read_file(in(name) + "/run.json"), "run.json")["settings"];
  }
  double last_loss(const std::string& name) const { return trace(name).back()["loss"].get<double>(); }
};

TEST_F(TrainCompute, IsBf16WhereTheProcessorHasIt) {
  run("auto", {"compute=auto", "train_steps=2"});
  EXPECT_EQ(settings_of("auto")["compute"], "bf16");
  EXPECT_EQ(settings_of("auto")["weight_storage"], "bf16");
  EXPECT_EQ(settings_of("auto")["activation_storage"], "bf16");
  run("set", {"compute=bf16", "weight_storage=f32", "train_steps=2"});
  EXPECT_EQ(settings_of("set")["weight_storage"], "f32");
  EXPECT_EQ(settings_of("set")["activation_storage"], "bf16");
  run("without", {"compute=auto", "train_steps=2"}, "SEPLLM_CPU=avx2");
  EXPECT_EQ(settings_of("without")["compute"], "f32");
  EXPECT_EQ(settings_of("without")["weight_storage"], "f32");
}

TEST_F(TrainCompute, LossesAreCloseToThoseOfF32AndNotTheSame) {
  run("f32", {});
  run("bf16", {"compute=bf16"});
  EXPECT_NEAR(last_loss("bf16"), last_loss("f32"), 0.03);
  EXPECT_NE(last_loss("bf16"), last_loss("f32"));
}

TEST_F(TrainCompute, ResumesBitForBitWithAnyNumberOfThreads) {
  run("whole", {"compute=bf16", "lr_decay_steps=30"});
  run("parts", {"compute=bf16", "lr_decay_steps=30", "train_steps=10", "threads=1"});
  run("parts", {"compute=auto", "lr_decay_steps=30"});
  EXPECT_EQ(trace("parts"), trace("whole"));
  EXPECT_TRUE(weights("parts") == weights("whole"));
}

// The setting in force belongs to the run.
TEST_F(TrainCompute, ARunKeepsWhatItStartedWith) {
  run("run", {"compute=f32", "train_steps=5"});
  run("run", {"compute=auto", "weight_storage=auto", "train_steps=7"});
  EXPECT_EQ(settings_of("run")["compute"], "f32");
  EXPECT_EQ(settings_of("run")["weight_storage"], "f32");
}

TEST_F(TrainCompute, AProcessorWithoutItSaysSo) {
  run("run", {"compute=bf16", "train_steps=5"});
  const std::string before = trace("run").back().dump();
  EXPECT_EQ(shell().run("SEPLLM_CPU=vnni", train("run", with_sets({"compute=auto", "train_steps=7"}))), 1);
  EXPECT_NE(shell().err().find("compute"), std::string::npos) << shell().err();
  EXPECT_NE(shell().err().find("started in bf16"), std::string::npos) << shell().err();
  EXPECT_EQ(trace("run").back().dump(), before);
  run("run", {"compute=f32", "train_steps=7"}, "SEPLLM_CPU=vnni");
  EXPECT_NE(shell().err().find("not the same bits"), std::string::npos) << shell().err();
  EXPECT_EQ(settings_of("run")["compute"], "f32");
}

}  // namespace
}  // namespace sepllm::test
