// A model whose config.json is refused gives one line: the warnings about its other parts are not printed.
#include <gtest/gtest.h>

#include "base/file.h"
#include "tests/support/cli.h"

namespace sepllm::test {
namespace {

TEST(RefusedConfig, IsOneLine) {
  const TemporaryFolder folder;
  for (const auto& [variant, key] : {std::pair{"gpt2", "add_cross_attention"},
                                     {"falcon-40b", "apply_residual_connection_post_layernorm"}}) {
    const std::string model = folder.file(variant);
    RandomModelOptions options{.variant = variant};
    write_random_model(model, options);
    options.extra_config = {{key, true}, {"bos_token_id", 50256}, {"eos_token_id", 50256}};
    folder.write(std::string(variant) + "/config.json", random_model_config(options).dump());
    expect_failure({"generate", "--model", model, "--prompt", "a"}, {key, "expected false"});
  }
}

}  // namespace
}  // namespace sepllm::test
