// The chunks in which tokens entered a cache. A cache's bits depend on where chunks end (in a longer chunk,
// sums have another order), so code that feeds tokens again with the same bits needs their ends.
#pragma once

#include <cstdint>
#include <vector>

#include "base/bytes.h"

namespace sepllm {

class ChunkList {
 public:
  // `count` chunks of `length` tokens each: decoding a long text is one run.
  struct Run {
    int64_t length = 0;
    int64_t count = 0;
    bool operator==(const Run&) const = default;
  };

  // Adds a chunk of this many tokens (> 0) at the end.
  void append(int64_t length) { append_run({length, 1}); }
  int64_t n_tokens() const { return n_tokens_; }
  // The chunks of the tokens [from, to). A chunk must begin at `from`; `to` may cut the last one.
  std::vector<Run> between(int64_t from, int64_t to) const;
  // The last end of a chunk at or before `position` (0 counts as one).
  int64_t end_before(int64_t position) const;
  // Forgets the tokens from `n_tokens` on; this may cut the last chunk.
  void keep_first(int64_t n_tokens);
  // Forgets the first `n_tokens` tokens; a chunk must end there (checked).
  void drop_first(int64_t n_tokens);

  void save(ByteWriter& out) const;
  // Error (kBadFile) for bytes that do not describe chunks of `n_tokens` tokens.
  static ChunkList read(ByteReader& in, int64_t n_tokens);
  int64_t bytes() const { return static_cast<int64_t>(runs_.capacity() * sizeof(Run)); }

 private:
  void append_run(Run run);

  std::vector<Run> runs_;
  int64_t n_tokens_ = 0;
};

}  // namespace sepllm
