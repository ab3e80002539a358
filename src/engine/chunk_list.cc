#include "engine/chunk_list.h"

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <vector>

#include "base/check.h"

namespace sepllm {

void ChunkList::append_run(Run run) {
  SEPLLM_CHECK(run.length > 0 && run.count >= 0);
  if (run.count == 0) return;
  n_tokens_ += run.length * run.count;
  if (!runs_.empty() && runs_.back().length == run.length) {
    runs_.back().count += run.count;
  } else {
    runs_.push_back(run);
  }
}

std::vector<ChunkList::Run> ChunkList::between(int64_t from, int64_t to) const {
  SEPLLM_CHECK(from >= 0 && from <= to && to <= n_tokens_);
  std::vector<Run> out;
  int64_t begin = 0;  // where the run begins
  for (const Run& run : runs_) {
    const int64_t end = begin + run.length * run.count;
    if (end > from && begin < to) {
      const int64_t first = std::max(begin, from);
      SEPLLM_CHECK((first - begin) % run.length == 0);
      const int64_t n = std::min(end, to) - first;
      if (n >= run.length) out.push_back({run.length, n / run.length});
      if (n % run.length > 0) out.push_back({n % run.length, 1});
    }
    begin = end;
  }
  return out;
}

int64_t ChunkList::end_before(int64_t position) const {
  SEPLLM_CHECK(position >= 0);
  int64_t begin = 0;
  for (const Run& run : runs_) {
    const int64_t n = run.length * run.count;
    if (position < begin + n) return begin + (position - begin) / run.length * run.length;
    begin += n;
  }
  return begin;
}

void ChunkList::keep_first(int64_t n_tokens) {
  const std::vector<Run> kept = between(0, n_tokens);
  runs_.clear();
  n_tokens_ = 0;
  for (const Run& run : kept) append_run(run);
}

void ChunkList::drop_first(int64_t n_tokens) {
  runs_ = between(n_tokens, n_tokens_);
  n_tokens_ -= n_tokens;
}

void ChunkList::save(ByteWriter& out) const {
  out.value(static_cast<int64_t>(std::ssize(runs_)));
  for (const Run& run : runs_) {
    out.value(run.length);
    out.value(run.count);
  }
}

ChunkList ChunkList::read(ByteReader& in, int64_t n_tokens) {
  ChunkList out;
  const int64_t n_runs = in.integer("number of runs of chunks", 0, n_tokens);
  in.need(static_cast<uint64_t>(n_runs) * sizeof(Run));
  for (int64_t k = 0; k < n_runs; ++k) {
    const int64_t left = n_tokens - out.n_tokens_;
    const int64_t length = in.integer("length of chunks", 1, std::max<int64_t>(left, 1));
    out.append_run({length, in.integer("number of chunks", 1, left / length)});
  }
  if (out.n_tokens_ != n_tokens) in.refuse("chunks of fewer tokens than there are");
  return out;
}

}  // namespace sepllm
