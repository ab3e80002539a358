// Points of a stream to which a session can go back, and the tokens since: few and small, and thinner the
// older they are.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace sepllm {

struct MarkSettings {
  int64_t interval = 256;   // tokens between periodic marks, at least (they lie at ends of chunks)
  int64_t n_periodic = 32;  // >= 3; beyond them those go that leave the smallest gap for their age
  int64_t n_asked = 32;     // >= 1; beyond them the oldest go
  int64_t max_tokens = int64_t{1} << 20;  // of the stream that are remembered, about
};

class Marks {
 public:
  struct Mark {
    int64_t position;
    bool asked;
    std::string state;  // KvCache::save_mark
  };

  explicit Marks(const MarkSettings& settings);

  // Forgets everything: the stream is at `position`.
  void begin(int64_t position);
  void append(std::span<const int32_t> tokens);
  // Whether a periodic mark is due at the end of the tokens so far.
  bool due() const;
  void add(Mark mark);  // at the end of the tokens so far; one that is there already is replaced
  // The last mark at or before a position; null: all are younger.
  const Mark* before(int64_t position) const;
  // Forgets what comes after a position.
  void cut(int64_t position);

  int64_t end() const { return begin_ + static_cast<int64_t>(tokens_.size()); }
  std::span<const int32_t> tokens(int64_t from, int64_t to) const;  // begin of the oldest mark <= from <= to
  std::vector<int64_t> positions() const;                           // ascending
  int64_t bytes() const;

 private:
  void thin_out();

  MarkSettings settings_;
  std::vector<Mark> marks_;  // ascending
  int64_t begin_ = 0;        // position of tokens_[0]
  std::vector<int32_t> tokens_;
};

}  // namespace sepllm
