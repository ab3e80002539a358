#include "apps/train_tokenizer.h"

#include <fmt/format.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <system_error>
#include <vector>

#include "apps/line_notes.h"
#include "apps/shell/common.h"
#include "apps/shell/figures.h"
#include "apps/shell/output.h"
#include "base/error.h"
#include "text/corpus/block_work.h"
#include "text/tokenizer.h"

namespace sepllm {
namespace {

std::vector<CountedWord> count_words(const TokenizerTraining& training, const InterruptGuard& guard,
                                     int64_t* text_bytes, LineNotes* lines) {
  ThreadPool pool(training.n_threads);
  DocumentOptions documents = training.documents;
  documents.may_cut = true;
  DocumentReader reader(training.input, documents);
  reader.check_files();
  WordCounter counter(pool.size(), training.bpe.specials);
  Progress progress("counting words", total_megabytes(training.input));
  std::atomic<int64_t> bytes{0};
  std::vector<LineNotes> slots(static_cast<size_t>(block_slots(pool)));
  const auto work = [&](const TextBlock& block, int slot, int worker) {
    slots[static_cast<size_t>(slot)] = for_each_document(block, documents, [&](const DocumentPart& part) {
      counter.add(part.text, worker);
      bytes += static_cast<int64_t>(part.text.size());
    });
  };
  const auto take = [&](int slot) {
    lines->add(slots[static_cast<size_t>(slot)]);
    progress.show(static_cast<int64_t>(reader.bytes_read()) / kMegabyte, "MB");
    return !guard.interrupted();
  };
  if (!for_each_block(reader, pool, work, take)) {
    throw Error(ErrorCode::kInvalidArgument, "interrupted: nothing was written");
  }
  *text_bytes = bytes;
  if (bytes == 0) {
    throw Error(ErrorCode::kInvalidArgument, "no text in the input: nothing was written",
                {.file = training.input.front(), .got = skipped_text(*lines)});
  }
  return counter.take();
}

}  // namespace

int64_t total_megabytes(const std::vector<std::string>& files) {
  int64_t total = 0;
  for (const std::string& file : files) {
    std::error_code code;
    const uint64_t size = std::filesystem::file_size(file, code);
    if (code) return 0;
    total += static_cast<int64_t>(size);
  }
  return (total + kMegabyte - 1) / kMegabyte;
}

void train_tokenizer(const TokenizerTraining& training) {
  const auto start = std::chrono::steady_clock::now();
  const auto seconds = [&] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  AtomicFolder folder(training.out);
  const InterruptGuard guard;
  int64_t text_bytes = 0;
  LineNotes lines;
  train_bpe({}, training.bpe, [](int64_t) { return true; });  // reports wrong options before the long part
  const std::vector<CountedWord> words = count_words(training, guard, &text_bytes, &lines);
  const double counting = seconds();
  TrainedBpe bpe;
  {
    Progress progress("merging", training.bpe.vocab_size);
    bpe = train_bpe(words, training.bpe, [&](int64_t n) {
      progress.show(n, "tokens");
      return !guard.interrupted();
    });
  }
  write_file_atomically(folder.path() + "/tokenizer.json", tokenizer_json_of(bpe));
  write_file_atomically(folder.path() + "/tokenizer_config.json", tokenizer_config_json_of(bpe));
  load_tokenizer(folder.path());  // checks that the written files can be read
  folder.commit();

  say_of_lines(lines);
  const auto n = static_cast<int64_t>(bpe.pieces.size());
  if (training.json) {
    print_json({{"out", training.out},
                {"vocab_size", n},
                {"merges", bpe.merges.size()},
                {"words", words.size()},
                {"text_bytes", text_bytes},
                {"skipped_lines", lines.skipped},
                {"replaced_lines", lines.replaced},
                {"seconds_counting", counting},
                {"seconds", seconds()}});
    return;
  }
  print(fmt::format(
      "{}: {} tokens, {} merges from {} distinct words\n{} of text in {:.1f} s, {:.1f} s of it counting\n",
      training.out, n, bpe.merges.size(), words.size(), human_bytes(text_bytes), seconds(), counting));
  if (n < training.bpe.vocab_size) {
    print_note(fmt::format("note: {} tokens of {}: no other pair occurs {} times", n, training.bpe.vocab_size,
                           training.bpe.min_frequency));
  }
}

}  // namespace sepllm
