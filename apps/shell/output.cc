#include "apps/shell/output.h"

#include <fmt/format.h>
#include <sys/types.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <set>
#include <string>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "base/log.h"

namespace sepllm {
namespace {

volatile std::sig_atomic_t interrupt_seen = 0;  // the signal's number

void on_interrupt(int signal) { interrupt_seen = signal; }

void write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t n = ::write(fd, text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EPIPE) throw OutputClosed();
    if (n < 0) {
      throw Error(ErrorCode::kIo, fmt::format("cannot write the output: {}", std::strerror(errno)));
    }
    text.remove_prefix(static_cast<size_t>(n));
  }
}

// SEPLLM_LOG=debug shows also what helps to find the cause of something.
bool wants_debug_lines() {
  const char* level = std::getenv("SEPLLM_LOG");
  return level != nullptr && std::string_view(level) == "debug";
}

}  // namespace

void set_up_output() {
  std::signal(SIGPIPE, SIG_IGN);
  // A file may be read more than once: the same warning is not written twice.
  set_log_sink([said = std::set<std::string>()](LogLevel level, const std::string& message) mutable {
    if (level == LogLevel::kDebug && !wants_debug_lines()) return;
    if (level == LogLevel::kWarning && !said.insert(message).second) return;
    print_note(level == LogLevel::kWarning ? "sepllm: warning: " + message : message);
  });
}

void print(std::string_view text) { write_all(STDOUT_FILENO, text); }

std::string json_line(const Json& value) { return json_text(value) + "\n"; }

void print_json(const Json& value) { print(json_line(value)); }

std::string with_dashes(const std::string& marked) {
  return write_options(marked,
                       [](const std::string& name) { return (name.size() == 1 ? "-" : "--") + name; });
}

void print_note(const std::string& text) {
  std::fputs((with_dashes(text) + "\n").c_str(), stderr);
  std::fflush(stderr);
}

bool output_is_terminal() { return ::isatty(STDOUT_FILENO) == 1; }
bool input_is_terminal() { return ::isatty(STDIN_FILENO) == 1; }

Progress::Progress(std::string what, int64_t total)
    : what_(std::move(what)), total_(total), active_(::isatty(STDERR_FILENO) == 1) {}

Progress::~Progress() {
  if (active_) std::fputs("\r\033[K", stderr);
}

void Progress::show(int64_t done, const std::string& remark) {
  const auto now = std::chrono::steady_clock::now();
  if (!active_ || now < next_) return;
  next_ = now + std::chrono::milliseconds(100);
  std::string line = fmt::format("\r\033[K{} {} {}", what_, done, remark);
  if (total_ > 0) {
    constexpr int64_t kWidth = 30;
    const double share = static_cast<double>(done) / static_cast<double>(total_);
    const auto filled = static_cast<size_t>(std::clamp(share, 0.0, 1.0) * kWidth);
    line = fmt::format("\r\033[K{} [{}{}] {}/{} {}", what_, std::string(filled, '#'),
                       std::string(kWidth - filled, '.'), done, total_, remark);
  }
  std::fputs(line.c_str(), stderr);
  std::fflush(stderr);
}

InterruptGuard::InterruptGuard() {
  interrupt_seen = 0;
  struct sigaction action {};
  action.sa_handler = on_interrupt;
  action.sa_flags = static_cast<int>(SA_RESETHAND);
  for (const int signal : {SIGINT, SIGTERM}) ::sigaction(signal, &action, nullptr);
}

InterruptGuard::~InterruptGuard() {
  for (const int signal : {SIGINT, SIGTERM}) std::signal(signal, SIG_DFL);
}

bool InterruptGuard::interrupted() const { return interrupt_seen != 0; }
bool InterruptGuard::terminated() const { return interrupt_seen == SIGTERM; }

}  // namespace sepllm
