// Where results, figures and warnings go: standard output carries only results.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/json.h"

namespace sepllm {

// Thrown by print() when nobody reads standard output any more (`| head`): the program then ends quietly.
struct OutputClosed {};

// Sends logs and warnings to standard error; a closed pipe becomes OutputClosed instead of a signal.
void set_up_output();

// Writes to standard output at once. Error (kIo) if it cannot be written, for example on a full disk.
void print(std::string_view text);
// Writes one line; text that is not UTF-8 is replaced, and NaN and infinity become null.
void print_json(const Json& value);
std::string json_line(const Json& value);
// A text with marked options (base/error.h), written with their dashes.
std::string with_dashes(const std::string& marked);
// Writes a line to standard error. Options that are marked in it (base/error.h) are written with their
// dashes.
void print_note(const std::string& text);

bool output_is_terminal();
bool input_is_terminal();

// A progress bar on standard error during some work; nothing if that is not a terminal.
class Progress {
 public:
  Progress(std::string what, int64_t total);  // total 0: not known
  ~Progress();                                // removes the bar
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  // Whether anybody sees it.
  bool visible() const { return active_; }
  // Draws at most ten times a second.
  void show(int64_t done, const std::string& remark = "");

 private:
  std::string what_;
  int64_t total_;
  bool active_;
  std::chrono::steady_clock::time_point next_{};
};

// While one lives, Ctrl-C and SIGTERM only set a flag; a second signal ends the program.
class InterruptGuard {
 public:
  InterruptGuard();
  ~InterruptGuard();
  InterruptGuard(const InterruptGuard&) = delete;
  InterruptGuard& operator=(const InterruptGuard&) = delete;
  bool interrupted() const;  // by either signal
  bool terminated() const;   // by SIGTERM
};

}  // namespace sepllm
