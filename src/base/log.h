// Warnings and notes for the user. Nothing below apps/ prints: it calls these functions, and the program
// decides where the text goes.
#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace sepllm {

enum class LogLevel { kDebug, kInfo, kWarning };  // kDebug: for whoever looks for the cause of something
using LogSink = std::function<void(LogLevel, const std::string&)>;

// Replaces the sink (by default everything is dropped) and returns the old one. Must not be called
// by a sink.
LogSink set_log_sink(LogSink sink);
void log_debug(const std::string& message);
void log_info(const std::string& message);
void log_warning(const std::string& message);

// While it lives, holds back what this thread logs, until release(). What was not released is dropped: if a
// reader ends in an Error, its warnings would only hide the line that matters. These objects can be nested.
class HeldWarnings {
 public:
  HeldWarnings();
  ~HeldWarnings();
  HeldWarnings(const HeldWarnings&) = delete;
  HeldWarnings& operator=(const HeldWarnings&) = delete;
  // Logs the held lines in order (into the next outer HeldWarnings, if there is one).
  void release();

 private:
  friend void log_debug(const std::string& message);
  friend void log_info(const std::string& message);
  friend void log_warning(const std::string& message);
  // Logs a line, or holds it back if the thread holds its lines.
  static void take(LogLevel level, const std::string& message);

  static thread_local HeldWarnings* innermost_;
  HeldWarnings* outer_;
  std::vector<std::pair<LogLevel, std::string>> held_;
};

}  // namespace sepllm
