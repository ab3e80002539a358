// Warnings and notes for the user. Below apps/ nothing prints: it calls these, and the program decides where
// they go.
#pragma once

#include <functional>
#include <string>

namespace sepllm {

enum class LogLevel { kInfo, kWarning };
using LogSink = std::function<void(LogLevel, const std::string&)>;

// Replaces the sink (default: drops everything) and returns the old one. Not to be called while other threads
// log.
LogSink set_log_sink(LogSink sink);
void log_info(const std::string& message);
void log_warning(const std::string& message);

}  // namespace sepllm
