#include "apps/score_log.h"

#include <fmt/format.h>

#include <cmath>
#include <cstdint>
#include <span>
#include <string>

#include "apps/shell/common.h"
#include "apps/shell/output.h"
#include "base/error.h"
#include "base/process.h"

namespace sepllm {
namespace {

// Bytes of the log's lines up to `tokens`.
int64_t log_bytes(const std::string& path, int64_t tokens) {
  int64_t before = 0;
  return bytes_of_lines(path, [&](const std::string& line) {
    int64_t at = 0;
    try {
      const Json value = parse_json(line, path);
      at = JsonObject(value, path).integer("tokens", before + 1, INT64_MAX);
    } catch (const Error&) {
      throw Error(ErrorCode::kBadFile, "not the log of a `score`",
                  {.file = path, .expected = "lines with growing \"tokens\"", .got = line});
    }
    before = at;
    return at <= tokens;
  });
}

int64_t nll_bytes(const std::string& path, int64_t lines, double last) {
  int64_t left = lines;
  std::string line;
  const int64_t bytes = bytes_of_lines(path, [&](const std::string& next) {
    if (left == 0) return false;
    --left;
    line = next;
    return true;
  });
  if (is_regular_file(path) || !file_exists(path)) {
    const bool fits = left == 0 && (lines == 0 || line == fmt::format("{}", last));
    if (!fits) {
      throw Error(
          ErrorCode::kBadFile, "does not contain what the run that saved the state has written",
          {.file = path,
           .expected = fmt::format("{} lines, the last one {}", lines, last),
           .got = left > 0 ? fmt::format("{} lines", lines - left) : line,
           .hint =
               "--nll-out must name the file of the run that saved the state; new lines are appended to it"});
    }
  }
  return bytes;
}

}  // namespace

ScoreLog::ScoreLog(const std::string& path, const KvCache& cache) : cache_(cache) {
  if (!path.empty()) file_.emplace(path);
}

ScoreLog::ScoreLog(const std::string& path, const KvCache& cache, const ScoreResult& last)
    : cache_(cache), last_(last) {
  if (!path.empty()) file_.emplace(path, log_bytes(path, last.tokens));
}

void ScoreLog::update(const ScoreResult& so_far) {
  if (so_far.tokens / kInterval > last_.tokens / kInterval) write_line(so_far);
}

void ScoreLog::finish(const ScoreResult& result) {
  if (result.tokens > last_.tokens) write_line(result);
}

void ScoreLog::sync() {
  if (file_) file_->sync();
}

double ScoreLog::perplexity(const ScoreResult& so_far) const {
  const int64_t predicted = so_far.predicted - last_.predicted;
  return predicted > 0 ? std::exp((so_far.nll_sum - last_.nll_sum) / static_cast<double>(predicted)) : NAN;
}

double ScoreLog::tokens_per_second(const ScoreResult& so_far) const {
  const double seconds = so_far.seconds - last_.seconds;
  return seconds > 0 ? static_cast<double>(so_far.tokens - last_.tokens) / seconds : 0.0;
}

void ScoreLog::write_line(const ScoreResult& so_far) {
  if (file_) {
    file_->write(json_line({{"tokens", so_far.tokens},
                            {"perplexity", so_far.perplexity()},
                            {"perplexity_window", perplexity(so_far)},
                            {"tokens_per_second", tokens_per_second(so_far)},
                            {"rss_bytes", rss_bytes()},
                            {"kv_bytes", cache_.held_bytes()}}));
    file_->flush();
  }
  last_ = so_far;
}

NllFile::NllFile(const std::string& path, bool resumable) {
  if (path.empty()) return;
  if (resumable) {
    growing_.emplace(path);
  } else {
    whole_.emplace(path);
  }
}

NllFile::NllFile(const std::string& path, int64_t lines, double last) : last_(last) {
  if (!path.empty()) growing_.emplace(path, nll_bytes(path, lines, last));
}

void NllFile::write(std::span<const double> nll) {
  if (!nll.empty()) last_ = nll.back();
  if (!whole_ && !growing_) return;
  std::string lines;
  for (const double x : nll) lines += fmt::format("{}\n", x);
  if (whole_) {
    whole_->write(lines);
  } else {
    growing_->write(lines);
  }
}

void NllFile::sync() {
  if (growing_) growing_->sync();
}

void NllFile::finish() {
  if (whole_) whole_->commit();
  if (growing_) growing_->close();
}

}  // namespace sepllm
