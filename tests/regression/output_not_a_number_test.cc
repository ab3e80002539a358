// A checkpoint with NaN in a weight that is not read at load time gave a text of <unk> for ever, or a
// perplexity of NaN, and exit code 0.
#include <cstring>
#include <limits>

#include "base/file.h"
#include "checkpoint/weight_store.h"
#include "tests/support/cli.h"

namespace sepllm::test {
namespace {

class OutputNotANumber : public RandomModelTest {
 protected:
  // The model with `value` as the first weight of the first layer's query projection.
  static std::string damaged(const std::string& name, float value) {
    const std::string folder = file(name);
    write_random_model(folder, {});
    const std::string path = folder + "/model.safetensors";
    std::string bytes = read_file(path);
    uint64_t header = 0;
    std::memcpy(&header, bytes.data(), sizeof(header));
    const Json entries = parse_json(bytes.substr(8, header), path);
    const auto at = entries["model.layers.0.self_attn.q_proj.weight"]["data_offsets"][0].get<uint64_t>();
    std::memcpy(bytes.data() + 8 + header + at, &value, sizeof(value));
    write_file_atomically(path, bytes);
    return folder;
  }
};

TEST_F(OutputNotANumber, IsAnErrorThatSaysWhereToLook) {
  const std::string text = write("t.txt", "Hello, world. How are you?");
  const float values[] = {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()};
  for (const float value : values) {
    const std::string folder = damaged(value != value ? "nan" : "inf", value);
    const std::vector<std::string> parts = {folder, "output is NaN or infinite", "inspect --check"};
    expect_failure({"generate", "--model", folder, "--prompt", "a"}, parts);
    expect_failure({"generate", "--model", folder, "--prompt", "a", "--json", "--temp", "1"}, parts);
    for (const char* policy : {"full", "sep", "sep-stream"}) {
      expect_failure({"score", "--model", folder, "--text", text, "--policy", policy}, parts);
    }
    const std::string page = file("page.html");
    expect_failure({"inspect", "attention", "--model", folder, "--text", text, "--out", page}, parts);
    EXPECT_FALSE(file_exists(page));
    expect_failure({"inspect", "--check", "--model", folder}, {"q_proj", "element 0", "NaN or infinite"});
  }
}

}  // namespace
}  // namespace sepllm::test
