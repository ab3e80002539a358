#include "base/log.h"

#include <mutex>
#include <string>
#include <utility>

namespace sepllm {
namespace {

struct State {
  std::mutex mutex;
  LogSink sink;
};

State& state() {
  static State s;
  return s;
}

void emit(LogLevel level, const std::string& message) {
  const std::lock_guard lock(state().mutex);
  if (state().sink) state().sink(level, message);
}

}  // namespace

thread_local HeldWarnings* HeldWarnings::innermost_ = nullptr;

HeldWarnings::HeldWarnings() : outer_(std::exchange(innermost_, this)) {}
HeldWarnings::~HeldWarnings() { innermost_ = outer_; }

void HeldWarnings::take(LogLevel level, const std::string& message) {
  if (innermost_ == nullptr) return emit(level, message);
  innermost_->held_.emplace_back(level, message);
}

void HeldWarnings::release() {
  innermost_ = outer_;
  for (const auto& [level, message] : std::exchange(held_, {})) take(level, message);
  innermost_ = this;
}

LogSink set_log_sink(LogSink sink) {
  const std::lock_guard lock(state().mutex);
  return std::exchange(state().sink, std::move(sink));
}
void log_debug(const std::string& message) { HeldWarnings::take(LogLevel::kDebug, message); }
void log_info(const std::string& message) { HeldWarnings::take(LogLevel::kInfo, message); }
void log_warning(const std::string& message) { HeldWarnings::take(LogLevel::kWarning, message); }

}  // namespace sepllm
