// Points of a stream to which a session can go back, and the tokens since with the chunks in which they
// entered: few and small, and thinner the older they are.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "engine/chunk_list.h"

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
  // A chunk that entered. `whole`: it is as long as feed() makes it of a long text.
  void append(std::span<const int32_t> tokens, bool whole);
  // Whether a periodic mark is due at the end of the tokens so far.
  bool due() const;
  void add(Mark mark);  // at the end of the tokens so far; one that is there already is replaced
  // The last mark at or before a position; null: all are younger.
  const Mark* before(int64_t position) const;
  // Forgets what comes after a position.
  void cut(int64_t position);

  // The tokens, where a mark is among the first of them: from begin() on.
  int64_t begin() const { return begin_; }
  int64_t end() const { return begin_ + static_cast<int64_t>(tokens_.size()); }
  std::span<const int32_t> tokens(int64_t from, int64_t to) const;  // begin() <= from <= to <= end()
  // Their chunks; one begins at `from`, `to` cuts the last one.
  std::vector<ChunkList::Run> chunks(int64_t from, int64_t to) const;
  // The last end of a chunk at or before a position up to which all chunks of the stream were whole: a text
  // that begins with these tokens is fed in the same chunks. 0 where the beginning is forgotten.
  int64_t whole_end(int64_t position) const;
  std::vector<int64_t> positions() const;  // of the marks, ascending
  int64_t bytes() const;

  // All of it but for marks whose states take more than `max_bytes` together: the oldest and those that were
  // asked for stay before others, new ones before old ones.
  void save(ByteWriter& out, int64_t max_bytes) const;
  // Error (kBadFile) for bytes that are no marks of a stream of `length` tokens.
  static Marks read(ByteReader& in, const MarkSettings& settings, int64_t length);
  const MarkSettings& settings() const { return settings_; }

 private:
  void thin_out();
  std::vector<const Mark*> newest_within(int64_t max_bytes) const;

  MarkSettings settings_;
  std::vector<Mark> marks_;  // ascending
  int64_t begin_ = 0;        // position of tokens_[0]
  std::vector<int32_t> tokens_;
  ChunkList chunks_;       // of tokens_
  int64_t whole_end_ = 0;  // the stream's chunks until here were whole
};

}  // namespace sepllm
