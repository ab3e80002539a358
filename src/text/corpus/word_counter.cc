#include "text/corpus/word_counter.h"

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/check.h"
#include "text/steps/word_scanners.h"

namespace sepllm {

WordCounter::WordCounter(int n_workers, std::vector<std::string> specials)
    : counts_(static_cast<size_t>(n_workers)), specials_(std::move(specials)) {
  for (const std::string& special : specials_) SEPLLM_CHECK(!special.empty());
}

void WordCounter::add(std::string_view text, int worker) {
  Counts* counts = &counts_.at(static_cast<size_t>(worker));
  std::vector<size_t> next(specials_.size());  // for each special, where it occurs next
  for (size_t s = 0; s < specials_.size(); ++s) next[s] = text.find(specials_[s]);
  for (size_t at = 0; at < text.size();) {
    size_t end = text.size(), skip = 0;
    for (size_t s = 0; s < specials_.size(); ++s) {
      if (next[s] < at) next[s] = text.find(specials_[s], at);
      const bool longer = next[s] == end && specials_[s].size() > skip;
      if (next[s] >= end && !longer) continue;
      end = next[s];
      skip = specials_[s].size();
    }
    add_words(text.substr(at, end - at), counts);
    at = end + skip;
  }
}

void WordCounter::add_words(std::string_view text, Counts* counts) {
  for (size_t at = 0; at < text.size();) {
    const size_t end = gpt2_word_end(text, at);
    const std::string_view word = text.substr(at, end - at);
    at = end;
    const auto it = counts->find(word);
    if (it != counts->end()) {
      ++it->second;
    } else {
      counts->emplace(word, 1);
    }
  }
}

std::vector<CountedWord> WordCounter::take() {
  Counts all = std::move(counts_.front());
  for (size_t w = 1; w < counts_.size(); ++w) {
    for (const auto& [word, count] : counts_[w]) all[word] += count;
    Counts().swap(counts_[w]);
  }
  std::vector<CountedWord> words;
  words.reserve(all.size());
  while (!all.empty()) {
    auto node = all.extract(all.begin());
    words.push_back({std::move(node.key()), node.mapped()});
  }
  Counts().swap(counts_.front());
  std::sort(words.begin(), words.end(),
            [](const CountedWord& a, const CountedWord& b) { return a.bytes < b.bytes; });
  return words;
}

}  // namespace sepllm
