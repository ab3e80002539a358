// The distinct words of a text and how often each occurs: what training a BPE needs to know of it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace sepllm {

struct CountedWord {
  std::string bytes;
  int64_t count = 0;
};

// Words by GPT-2's pattern (as GPT-NeoX's, too), each thread for itself.
class WordCounter {
 public:
  // Strings that are no text and stand between texts: special tokens. Not empty.
  WordCounter(int n_workers, std::vector<std::string> specials);

  // Adds the words of a text, or of a part of one that is cut where Tokenizer::cuts_before_line_break says;
  // valid UTF-8. worker in [0, n_workers): calls of one worker must not overlap.
  void add(std::string_view text, int worker);
  // All words, ordered by their bytes. The counter is empty then.
  std::vector<CountedWord> take();

 private:
  struct Hash {
    using is_transparent = void;
    size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
  };
  using Counts = std::unordered_map<std::string, int64_t, Hash, std::equal_to<>>;

  static void add_words(std::string_view text, Counts* counts);

  std::vector<Counts> counts_;  // of each worker
  std::vector<std::string> specials_;
};

}  // namespace sepllm
