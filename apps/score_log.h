// What `score` writes while it runs: a JSON line per interval (how perplexity, speed and memory develop over
// a long text), and the NLL of each token.
#pragma once

#include <optional>
#include <span>
#include <string>

#include "base/file.h"
#include "base/line_file.h"
#include "cache/kv_cache.h"
#include "engine/scorer.h"

namespace sepllm {

// The figures since the end of the last full interval; also counts where no log is written.
class ScoreLog {
 public:
  static constexpr int64_t kInterval = 65536;  // tokens a line

  // No file if `path` is empty. Error (kIo) if it cannot be written. The file grows line by line, so that a
  // run can be watched.
  ScoreLog(const std::string& path, const KvCache& cache);
  // Of a stream that goes on: `last` as the run before had it; the lines up to that stay in the file. Error
  // (kBadFile) for a file that is no such log.
  ScoreLog(const std::string& path, const KvCache& cache, const ScoreResult& last);

  void update(const ScoreResult& so_far);  // a line if an interval is full
  void finish(const ScoreResult& result);  // the last line, where the last interval is not empty
  void sync();

  const ScoreResult& last() const { return last_; }
  double perplexity(const ScoreResult& so_far) const;  // of the interval; NaN where nothing was predicted
  double tokens_per_second(const ScoreResult& so_far) const;

 private:
  void write_line(const ScoreResult& so_far);

  const KvCache& cache_;
  std::optional<LineFile> file_;
  ScoreResult last_;
};

// One natural-log NLL a line. Without a state the file is there at the end or not at all; a run that can be
// resumed writes it as it goes.
class NllFile {
 public:
  // `path` empty: nothing is written.
  NllFile(const std::string& path, bool resumable);
  // Behind the first `lines` lines. Error (kBadFile) where the file has fewer, or the last of them is not
  // `last`: it is of another run.
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
