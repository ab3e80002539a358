// Keeps what is logged while it lives, instead of printing it.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "base/log.h"

namespace sepllm::test {

class CapturedLog {
 public:
  CapturedLog() : old_(set_log_sink([this](LogLevel, const std::string& text) { lines_.push_back(text); })) {}
  ~CapturedLog() { set_log_sink(std::move(old_)); }
  CapturedLog(const CapturedLog&) = delete;
  CapturedLog& operator=(const CapturedLog&) = delete;
  const std::vector<std::string>& lines() const { return lines_; }

 private:
  std::vector<std::string> lines_;
  LogSink old_;
};

}  // namespace sepllm::test
