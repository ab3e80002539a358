// The JSON lines of `score --log`: how perplexity, speed and memory develop over a long text.
#pragma once

#include <chrono>
#include <cstdio>
#include <string>

#include "cache/kv_cache.h"
#include "engine/scorer.h"

namespace sepllm {

class ScoreLog {
 public:
  static constexpr int64_t kInterval = 65536;  // tokens a line

  // Error (kIo) if the file cannot be written. The file grows line by line, so that a run can be watched.
  ScoreLog(const std::string& path, const KvCache& cache);
  ~ScoreLog();
  ScoreLog(const ScoreLog&) = delete;
  ScoreLog& operator=(const ScoreLog&) = delete;

  void update(const ScoreResult& so_far);  // a line if an interval is full
  void finish(const ScoreResult& result);  // the last line, where the last interval is not empty

 private:
  void write_line(const ScoreResult& so_far);

  std::string path_;
  const KvCache& cache_;
  std::FILE* file_;
  ScoreResult last_;
};

}  // namespace sepllm
