#include "apps/score_log.h"

#include <cerrno>
#include <cmath>
#include <cstring>

#include "apps/common.h"
#include "apps/output.h"
#include "base/error.h"

namespace sepllm {

ScoreLog::ScoreLog(const std::string& path, const KvCache& cache)
    : path_(path), cache_(cache), file_(std::fopen(path.c_str(), "w")) {
  if (file_ == nullptr) {
    throw Error(ErrorCode::kIo, std::string("cannot write: ") + std::strerror(errno), {.file = path});
  }
}

ScoreLog::~ScoreLog() { std::fclose(file_); }

void ScoreLog::update(const ScoreResult& so_far) {
  if (so_far.tokens / kInterval > last_.tokens / kInterval) write_line(so_far);
}

void ScoreLog::finish(const ScoreResult& result) {
  if (result.tokens > last_.tokens) write_line(result);
}

void ScoreLog::write_line(const ScoreResult& so_far) {
  const int64_t tokens = so_far.tokens - last_.tokens;
  const int64_t predicted = so_far.predicted - last_.predicted;
  const double seconds = so_far.seconds - last_.seconds;
  const Json line = {
      {"tokens", so_far.tokens},
      {"perplexity", so_far.perplexity()},
      {"perplexity_window",
       predicted > 0 ? std::exp((so_far.nll_sum - last_.nll_sum) / static_cast<double>(predicted)) : NAN},
      {"tokens_per_second", seconds > 0 ? static_cast<double>(tokens) / seconds : 0.0},
      {"rss_bytes", rss_bytes()},
      {"kv_bytes", kv_bytes_held(cache_)}};
  const std::string text = json_line(line);
  if (std::fwrite(text.data(), 1, text.size(), file_) != text.size() || std::fflush(file_) != 0) {
    throw Error(ErrorCode::kIo, std::string("cannot write: ") + std::strerror(errno), {.file = path_});
  }
  last_ = so_far;
}

}  // namespace sepllm
