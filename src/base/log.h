// Warnings and notes for the user. Below apps/ nothing prints: it calls these, and the program decides where
// they go.
#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace sepllm {

enum class LogLevel { kInfo, kWarning };
using LogSink = std::function<void(LogLevel, const std::string&)>;

// Replaces the sink (default: drops everything) and returns the old one. Not to be called while other threads
// log.
LogSink set_log_sink(LogSink sink);
void log_info(const std::string& message);
void log_warning(const std::string& message);

// Keeps back what this thread logs during its life, until release(); what was not released is dropped: the
// warnings of a reader that ends in an Error would only stand before the line that matters. They nest.
class HeldWarnings {
 public:
  HeldWarnings();
  ~HeldWarnings();
  HeldWarnings(const HeldWarnings&) = delete;
  HeldWarnings& operator=(const HeldWarnings&) = delete;
  // Logs what was held, in order (into the next outer one, if there is one).
  void release();

 private:
  friend void log_info(const std::string& message);
  friend void log_warning(const std::string& message);
  // Logs a line, or keeps it back where the thread holds its lines.
  static void take(LogLevel level, const std::string& message);

  static thread_local HeldWarnings* innermost_;
  HeldWarnings* outer_;
  std::vector<std::pair<LogLevel, std::string>> held_;
};

}  // namespace sepllm
