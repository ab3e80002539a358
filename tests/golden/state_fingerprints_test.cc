// States of earlier versions belong to the models that they belonged to: fingerprints that the first version
// wrote into them. A change of what is hashed would refuse all these states as those of another model.
#include <gtest/gtest.h>

#include <string>
#include <utility>

#include "engine/fingerprint.h"
#include "engine/model.h"

namespace sepllm {
namespace {

TEST(StateFingerprints, AreThoseOfTheFirstVersion) {
  const std::string golden = SEPLLM_SOURCE_DIR "/tests/golden/models/";
  for (const auto& [folder, fingerprint] : {std::pair{golden + "falcon_7b", "68819a57e9bd8cfc"},
                                            {golden + "falcon_40b", "d8da0f6304c55cf0"},
                                            {golden + "falcon_rw", "fc884e2e23f88093"},
                                            {golden + "gpt2", "2c93f9f7009348c0"},
                                            {golden + "llama_bias", "e15fdbd1a9101460"},
                                            {golden + "llama_f16", "666defe1eaa6f72f"},
                                            {golden + "llama_gqa", "66329db8fca9b375"},
                                            {golden + "llama_rope_llama3_new", "f926a09b5b59d7bf"},
                                            {golden + "llama_sharded", "7d4eb10eae85656a"},
                                            {golden + "llama_tied", "be44bd262ba1b3c3"},
                                            {golden + "neox_parallel", "3f21b5e36eb61af1"},
                                            {golden + "neox_sequential", "f907c50349f7920e"},
                                            {SEPLLM_SOURCE_DIR "/models/sepllm-5m", "219c37a3e5af4a0d"}}) {
    EXPECT_EQ(model_fingerprint(load_model(folder, "").decoder), fingerprint) << folder;
  }
}

}  // namespace
}  // namespace sepllm
