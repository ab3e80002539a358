// Files that `score` writes while it runs: a JSON line per interval (how perplexity, speed and memory develop
// over a long text), and the NLL of each token.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "base/file.h"
#include "base/line_file.h"
#include "cache/kv_cache.h"
#include "engine/scorer.h"

namespace sepllm {

// The figures since the end of the last full interval. They are also counted if no log is written.
class ScoreLog {
 public:
  static constexpr int64_t kInterval = 65536;  // tokens per line

  // No file if `path` is empty. Error (kIo) if it cannot be written. The file grows line by line, so that a
  // run can be watched.
  ScoreLog(const std::string& path, const KvCache& cache);
  // For a continued stream: `last` is the last line's result of the run before; the lines up to it stay in
  // the file. Error (kBadFile) for a file that is not such a log.
  ScoreLog(const std::string& path, const KvCache& cache, const ScoreResult& last);

  void update(const ScoreResult& so_far);  // writes a line if an interval is full
  void finish(const ScoreResult& result);  // writes the last line, if the last interval is not empty
  void sync();

  const ScoreResult& last() const { return last_; }
  double perplexity(const ScoreResult& so_far) const;  // of the interval; NaN if nothing was predicted
  double tokens_per_second(const ScoreResult& so_far) const;

 private:
  void write_line(const ScoreResult& so_far);

  const KvCache& cache_;
  std::optional<LineFile> file_;
  ScoreResult last_;
};

// One natural-log NLL per line. Without a state, the file is complete at the end or does not exist; a run
// that can be resumed writes it during its work.
class NllFile {
 public:
  // If `path` is empty, nothing is written.
  NllFile(const std::string& path, bool resumable);
  // Continues after the first `lines` lines. Error (kBadFile) if the file has fewer, or the last of them is
  // not `last`: then it belongs to another run.
  NllFile(const std::string& path, int64_t lines, double last);

  void write(std::span<const double> nll);
  void sync();
  void finish();
  double last() const { return last_; }

 private:
  std::optional<AtomicFile> whole_;
  std::optional<LineFile> growing_;
  double last_ = 0.0;
};

}  // namespace sepllm
