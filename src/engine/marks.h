// Points of a stream to which a session can go back, and the tokens since then with the chunks in which they
// entered. Marks are few and small, and the older they are, the fewer are kept.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "engine/chunk_list.h"

namespace sepllm {

struct MarkSettings {
  int64_t interval = 256;  // at least this many tokens between periodic marks (they lie at ends of chunks)
  // >= 3; if there are more, the one that leaves the smallest gap for its age is dropped
  int64_t n_periodic = 32;
  int64_t n_asked = 32;                   // >= 1; if there are more, the oldest is dropped
  int64_t max_tokens = int64_t{1} << 20;  // about how many tokens of the stream are remembered
};

class Marks {
 public:
  struct Mark {
    int64_t position;
    bool asked;
    std::string state;  // written by KvCache::save_mark
  };

  explicit Marks(const MarkSettings& settings);

  // Forgets everything: the stream is now at `position`.
  void begin(int64_t position);
  // Adds a chunk that entered the cache. `whole`: it is as long as feed() makes it in a long text.
  void append(std::span<const int32_t> tokens, bool whole);
  // Whether a periodic mark is due at the end of the tokens so far.
  bool due() const;
  void add(Mark mark);  // at the end of the tokens so far; replaces a mark that is already there
  // The last mark at or before a position; null if all are later.
  const Mark* before(int64_t position) const;
  // What is left of it after cut(position), without copies of the rest.
  Marks first(int64_t position) const;
  // Forgets everything after a position.
  void cut(int64_t position);
  void keep_first();  // drops all marks but the first one

  // The remembered tokens begin at begin(); a mark is among the first of them.
  int64_t begin() const { return begin_; }
  int64_t end() const { return begin_ + static_cast<int64_t>(tokens_.size()); }
  std::span<const int32_t> tokens(int64_t from, int64_t to) const;  // begin() <= from <= to <= end()
  // The chunks of these tokens; one must begin at `from`, and `to` may cut the last one.
  std::vector<ChunkList::Run> chunks(int64_t from, int64_t to) const;
  // The last end of a chunk at or before a position up to which all chunks of the stream were whole: a text
  // that begins with these tokens is fed in the same chunks. 0 if the beginning is forgotten.
  int64_t whole_end(int64_t position) const;
  std::vector<int64_t> positions() const;  // of all marks, ascending
  int64_t bytes() const;

  // Saves all of it, except for marks whose states take more than `max_bytes` together: the oldest mark and
  // those that the user asked for are kept before others, new ones before old ones.
  void save(ByteWriter& out, int64_t max_bytes) const;
  // Error (kBadFile) for bytes that are not the marks of a stream of `length` tokens.
  static Marks read(ByteReader& in, const MarkSettings& settings, int64_t length);
  const MarkSettings& settings() const { return settings_; }

 private:
  void thin_out();
  std::vector<const Mark*> newest_within(int64_t max_bytes) const;

  MarkSettings settings_;
  std::vector<Mark> marks_;  // ascending
  int64_t begin_ = 0;        // the position of tokens_[0]
  std::vector<int32_t> tokens_;
  ChunkList chunks_;       // the chunks of tokens_
  int64_t whole_end_ = 0;  // the stream's chunks up to here were whole
};

}  // namespace sepllm
