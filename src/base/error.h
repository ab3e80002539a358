// The one exception for bad input: files, flags, requests, text. It is caught only at the edges (main, HTTP,
// C API). A bug in our own code is not an Error but a failed SEPLLM_CHECK (check.h).
#pragma once

#include <exception>
#include <functional>
#include <string>
#include <string_view>

namespace sepllm {

// An option's name, for the text of an Error or a warning. It is stored between marks, because each edge
// writes it in its own way: the command line as --init, a server as the name of a field. Error::what() has no
// marks.
std::string option_name(const std::string& name);
// The text with each marked option replaced by what `write` makes of its name.
std::string write_options(std::string_view marked,
                          const std::function<std::string(const std::string&)>& write);

enum class ErrorCode {
  kInvalidArgument,  // a flag, option or request field is wrong
  kNotFound,         // a file, tensor or name is missing
  kBadFile,          // a file's content contradicts its format or another file
  kUnsupported,      // well-formed, but not supported by this program
  kOutOfRange,       // a limit of the model or the machine is exceeded
  kIo                // the operating system reported a failure
};

// Where it happened and what was expected; empty fields are left out of the message.
struct ErrorDetail {
  std::string file{};
  std::string place{};  // a key, tensor name, byte offset, line
  std::string expected{};
  std::string got{};
  std::string hint{};
};

class Error : public std::exception {
 public:
  Error(ErrorCode code, const std::string& message, const ErrorDetail& detail = {});

  ErrorCode code() const { return code_; }
  // The first option that the place or the message names, such as "init"; empty if there is none.
  const std::string& option() const { return option_; }
  // One line: "FILE: PLACE: message (expected X, got Y); hint". Control characters and invalid UTF-8 are
  // escaped and long quotes from the input are cut, so that it is safe to print.
  const char* what() const noexcept override { return what_.c_str(); }
  // The same text, but with marks around options, for write_options().
  const std::string& marked_text() const { return marked_; }

 private:
  ErrorCode code_;
  std::string marked_;  // with options between marks
  std::string what_;
  std::string option_;
};

}  // namespace sepllm
