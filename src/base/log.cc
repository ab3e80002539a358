#include "base/log.h"

#include <mutex>
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

LogSink set_log_sink(LogSink sink) { return std::exchange(state().sink, std::move(sink)); }
void log_info(const std::string& message) { emit(LogLevel::kInfo, message); }
void log_warning(const std::string& message) { emit(LogLevel::kWarning, message); }

}  // namespace sepllm
