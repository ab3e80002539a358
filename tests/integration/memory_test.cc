// Runs that do not fit the memory at hand are refused before they take any; those that are tight run.
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "base/file.h"
#include "tests/support/train_run.h"

namespace sepllm::test {
namespace {

// The memory at hand, for programs that are run while this object lives.
class StatedMemory {
 public:
  explicit StatedMemory(const std::string& size) { ::setenv("SEPLLM_MEMORY", size.c_str(), 1); }
  ~StatedMemory() { ::unsetenv("SEPLLM_MEMORY"); }
  StatedMemory(const StatedMemory&) = delete;
  StatedMemory& operator=(const StatedMemory&) = delete;
};

void expect_warning(const std::vector<std::string>& arguments, const std::vector<std::string>& parts,
                    const std::string& input = "") {
  const ProgramResult result = run_sepllm(arguments, input);
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_NE(result.err.find("sepllm: warning: "), std::string::npos) << result.err;
  for (const std::string& part : parts) EXPECT_NE(result.err.find(part), std::string::npos) << result.err;
}

class CliMemory : public RandomModelTest {};

TEST_F(CliMemory, RunsThatFitNoMachine) {
  const StatedMemory memory("1T");
  const std::string ids = write("some.ids", "1 2 3 4 5 6");
  expect_failure(with_model("score", {"--ids", ids, "--tokens", "1000000000000"}),
                 {"the cache does not fit into the available memory", "--kv", "at most",
                  "TiB of cache for 1000000000000 tokens"});
  expect_failure({"bench", "decode", "--shape", "sepllm-5m", "-d", "1000000000"},
                 {"out of memory for the caches", "TiB"});
}

TEST_F(CliMemory, AShapeIsRefusedBeforeItIsMade) {
  const StatedMemory memory("8G");
  expect_failure({"bench", "prefill", "--shape", "llama-3-8b"},
                 {"llama-3-8b: the model does not fit", "at most 8.0 GiB", "15.0 GiB of weights"});
}

TEST_F(CliMemory, MappedWeightsArePagedInAndOut) {
  const StatedMemory memory("20K");
  const std::vector<std::string> run =
      with_model("generate", {"--prompt", "ab", "-n", "2", "--kv", "f16", "--policy", "sink-stream"});
  expect_warning(run, {"mapped from the files", "(20.0 KiB)", "reads weights from the disk"});
  expect_failure(
      run + std::vector<std::string>{"--weights", "q8_0"},
      {"does not fit into the available memory", "at most 20.0 KiB", "KiB of weights", "SEPLLM_MEMORY"});
}

TEST_F(CliMemory, ACacheThatCanGrowBeyondItIsAWarning) {
  const auto weights = run_json(with_model("inspect"))["memory"]["weights_bytes"].get<int64_t>();
  const StatedMemory memory(std::to_string(weights + (100 << 10)));
  expect_warning(with_model("generate", {"--prompt", "ab", "-n", "500", "--stop", "a", "--stop", "e"}),
                 {"of cache for 50", "mapped weights"});
  expect_warning(with_model("chat", {"--chat-format", "plain"}), {"384.0 KiB of cache for 512 tokens"},
                 "/exit\n");
}

TEST_F(CliMemory, ACacheThatMustGrowBeyondItIsAnError) {
  const StatedMemory memory("200K");
  const std::string text = write("long.txt", std::string(500, 'x'));
  const std::vector<std::string> score = with_model("score", {"--text", text});
  expect_failure(score + std::vector<std::string>{"--tokens", "400"},
                 {"the cache does not fit into the available memory", "300.0 KiB of cache for 400 tokens"});
  // (Where the length comes to light only when the text is read the weights have been warned of.)
  EXPECT_NE(run_sepllm(score).err.find("the cache does not fit into the available memory"),
            std::string::npos);
  EXPECT_EQ(run_sepllm(score + std::vector<std::string>{"--policy", "sink", "--window", "16",
                                                        "--prefill-chunk", "16"})
                .exit_code,
            0);
}

TEST_F(CliMemory, InspectPrintsTheFigures) {
  const StatedMemory memory("3M");
  EXPECT_EQ(run_json(with_model("inspect"))["memory"]["at_hand_bytes"], 3 << 20);
  EXPECT_NE(run_sepllm(with_model("inspect")).out.find("available       3.0 MiB\n"), std::string::npos);
}

TEST_F(CliMemory, AWrongStatementIsAnError) {
  const StatedMemory memory("plenty");
  expect_failure(with_model("generate", {"--prompt", "ab"}), {"SEPLLM_MEMORY", "plenty", "K, M, G or T"});
}

// A model of 8 GiB; the whole file is a hole.
void write_large_model(const std::string& folder) {
  constexpr int64_t kRows = int64_t{1} << 24;
  write_random_model(folder, {});
  Json config = parse_json(read_file(folder + "/config.json"), "config.json");
  config["vocab_size"] = kRows;
  std::ofstream(folder + "/config.json") << json_text(config);
  const std::string file = folder + "/model.safetensors";
  const std::string bytes = read_file(file);
  uint64_t length = 0;
  std::memcpy(&length, bytes.data(), sizeof length);
  Json header = parse_json(bytes.substr(8, length), "header");
  int64_t at = 0;
  for (auto& [name, entry] : header.items()) {
    if (name == "__metadata__") continue;
    if (name == "model.embed_tokens.weight" || name == "lm_head.weight") entry["shape"][0] = kRows;
    int64_t size = 4;
    for (const Json& n : entry["shape"]) size *= n.get<int64_t>();
    entry["data_offsets"] = {at, at + size};
    at += size;
  }
  std::string text = json_text(header);
  text.resize((text.size() + 7) / 8 * 8, ' ');
  length = text.size();
  std::ofstream(file, std::ios::binary).write(reinterpret_cast<const char*>(&length), 8) << text;
  std::filesystem::resize_file(file, 8 + length + static_cast<uint64_t>(at));
}

TEST_F(CliMemory, ALargeModelIsRefusedBeforeItIsRead) {
  const std::string large = file("large");
  write_large_model(large);
  const StatedMemory memory("1G");
  expect_failure({"generate", "--model", large, "--prompt", "ab", "--weights", "q8_0"},
                 {"at most 1.0 GiB", "2.1 GiB of weights"});
  const Json all = run_json({"inspect", "--model", large});
  EXPECT_GT(all["memory"]["weights_bytes"].get<int64_t>(), int64_t{8} << 30);
}

class TrainMemory : public TrainRun {};

TEST_F(TrainMemory, ARunIsComparedWithTheMemoryAtHand) {
  const StatedMemory memory("1M");
  expect_failure(train("run"), {"the run does not fit into the available memory", "at most 1.0 MiB",
                                "weights", "gradients", "moments", "activations", "micro_batch_size"});
  EXPECT_FALSE(std::filesystem::exists(in("run/run.json")));
  // A dry run must work on any machine.
  expect_warning(train("run") + Strings{"--dry-run"},
                 {"the run takes more than the available memory (1.0 MiB)"});
  EXPECT_EQ(run_json(train("run") + Strings{"--dry-run"})["memory"]["at_hand"], 1 << 20);
}

}  // namespace
}  // namespace sepllm::test
