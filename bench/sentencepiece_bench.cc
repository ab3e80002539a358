// Encoding and decoding with SentencePiece and llama2.c tokenizers, in bytes of text per second. Real text
// and vocabularies come from the folder in $SEPLLM_TEST_DATA; without it, only the word without blanks is
// run, on a generated vocabulary.
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <cstdlib>
#include <filesystem>

#include "base/file.h"
#include "text/bpe/score_bpe.h"
#include "text/formats/llama2c_tokenizer.h"
#include "text/formats/sentencepiece_tokenizer.h"

namespace sepllm {
namespace {

constexpr size_t kTextBytes = size_t{4} << 20;

std::string data_folder() {
  const char* folder = std::getenv("SEPLLM_TEST_DATA");
  return folder == nullptr ? "" : folder;
}

const std::string& book_text() {
  static const std::string kText = [] {
    std::string text;
    for (const auto& entry : std::filesystem::directory_iterator(data_folder() + "/text/pg19/test")) {
      if (text.size() < kTextBytes) text += read_file(entry.path());
    }
    return text;
  }();
  return kText;
}

void set_bytes(benchmark::State& state, size_t bytes) {
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations()) * static_cast<int64_t>(bytes));
}

void encode(benchmark::State& state, const Tokenizer& tokenizer) {
  for (auto _ : state) benchmark::DoNotOptimize(tokenizer.encode(book_text()));
  set_bytes(state, book_text().size());
}

void decode(benchmark::State& state, const Tokenizer& tokenizer) {
  const std::vector<int32_t> ids = tokenizer.encode(book_text());
  for (auto _ : state) benchmark::DoNotOptimize(tokenizer.decode(ids));
  set_bytes(state, book_text().size());
}

// One word of `range` bytes without a blank, the worst case of the merges.
void long_word(benchmark::State& state) {
  std::vector<ScoredPiece> pieces = {{"a", -9}, {"b", -8}, {"ab", -1}, {"abab", -2}, {"ababababab", -3}};
  const ScoreBpe bpe(pieces, "");
  std::string word;
  while (word.size() < static_cast<size_t>(state.range(0))) word += "ab";
  std::vector<int32_t> ids;
  for (auto _ : state) {
    ids.clear();
    bpe.encode(word, {}, ids);
    benchmark::DoNotOptimize(ids.data());
  }
  set_bytes(state, word.size());
}
BENCHMARK(long_word)->Arg(1 << 10)->Arg(1 << 16)->Arg(10 << 20)->Unit(benchmark::kMillisecond);

void register_real(const std::string& name, const Tokenizer& tokenizer) {
  const auto add = [&](const std::string& what, void (*run)(benchmark::State&, const Tokenizer&)) {
    benchmark::RegisterBenchmark((what + "/" + name).c_str(), run, std::cref(tokenizer))
        ->Unit(benchmark::kMillisecond);
  };
  add("encode", encode);
  add("decode", decode);
}

}  // namespace
}  // namespace sepllm

int main(int argc, char** argv) {
  using namespace sepllm;
  benchmark::Initialize(&argc, argv);
  std::unique_ptr<Tokenizer> sentencepiece, llama2c;
  if (const std::string data = data_folder(); !data.empty()) {
    sentencepiece = load_sentencepiece(data + "/tokenizers/llama2/tokenizer.model");
    llama2c = load_llama2c(data + "/tokenizers/llama2/tokenizer.bin", 32000);
    register_real("sentencepiece", *sentencepiece);
    register_real("llama2c", *llama2c);
  }
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
}
