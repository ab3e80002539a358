// Speed of the byte-level BPE tokenizers. SEPLLM_TEST_DATA: folder with tokenizers/; SEPLLM_BENCH_TEXT: a
// file to encode; without it, a generated text. bytes_per_second is per core, because one thread encodes.
#include <benchmark/benchmark.h>

#include <cstdlib>
#include <random>

#include "base/error.h"
#include "base/file.h"
#include "text/tokenizer.h"

namespace sepllm {
namespace {

// Words with the frequencies of natural text (Zipf's law), in sentences and lines.
std::string generated_text(size_t size) {
  std::mt19937 rng(1);
  std::vector<std::string> words(20000);
  for (std::string& word : words) {
    const size_t length = 1 + rng() % 9;
    for (size_t k = 0; k < length; ++k)
      word += "etaoinshrdlucmfwypvbgkqjxz"[(rng() % 26) * (rng() % 26) / 26];
  }
  std::string text;
  while (text.size() < size) {
    const double u = static_cast<double>(rng() % 1000000 + 1) / 1e6;
    text += words[static_cast<size_t>(static_cast<double>(words.size() - 1) * u * u * u * u)];
    text += rng() % 60 == 0 ? ".\n" : rng() % 12 == 0 ? ", " : " ";
  }
  return text;
}

void encode(benchmark::State& state, const std::string& name) {
  const char* data = std::getenv("SEPLLM_TEST_DATA");
  const char* file = std::getenv("SEPLLM_BENCH_TEXT");
  if (data == nullptr) return state.SkipWithError("SEPLLM_TEST_DATA is not set");
  try {
    const auto tokenizer = load_tokenizer(std::string(data) + "/tokenizers/" + name);
    const std::string text = file != nullptr ? read_file(file) : generated_text(4 << 20);
    size_t tokens = 0;
    for (auto _ : state) {
      const auto ids = tokenizer->encode(text);
      tokens = ids.size();
      benchmark::DoNotOptimize(ids.data());
    }
    state.SetBytesProcessed(static_cast<int64_t>(state.iterations() * text.size()));
    state.counters["bytes_per_token"] = static_cast<double>(text.size()) / static_cast<double>(tokens);
  } catch (const Error& e) {
    state.SkipWithError(e.what());
  }
}

BENCHMARK_CAPTURE(encode, gpt2, "gpt2/tokenizer.json")->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(encode, gpt_neox, "gpt-neox-20b/tokenizer.json")->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(encode, falcon, "falcon/tokenizer.json")->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(encode, llama3, "llama3/tokenizer.model")->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace sepllm

BENCHMARK_MAIN();
