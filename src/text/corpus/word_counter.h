// Counts the distinct words of a text: what training a BPE needs to know of it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace sepllm {

struct CountedWord {
  std::string bytes;
  int64_t count = 0;
};

// Splits words by GPT-2's pattern (which GPT-NeoX uses, too). Each thread counts separately.
class WordCounter {
 public:
  // `specials`: special tokens, which stand between texts and are not part of them. Not empty strings.
  WordCounter(int n_workers, std::vector<std::string> specials);

  // Adds the words of a text, or of a part of a text that was cut where Tokenizer::cuts_before_line_break
  // allows it; valid UTF-8. worker is in [0, n_workers): calls of one worker must not overlap.
  void add(std::string_view text, int worker);
  // All words, ordered by their bytes. Afterwards the counter is empty.
  std::vector<CountedWord> take();

 private:
  struct Hash {
    using is_transparent = void;
    size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
  };
  using Counts = std::unordered_map<std::string, int64_t, Hash, std::equal_to<>>;

  static void add_words(std::string_view text, Counts* counts);

  std::vector<Counts> counts_;  // by worker
  std::vector<std::string> specials_;
};

}  // namespace sepllm
