// Turns a JSON array into JSON lines, piece by piece: an array of any length is never in memory as a whole.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace sepllm {

class JsonArrayLines {
 public:
  explicit JsonArrayLines(std::string file) : file_(std::move(file)) {}

  // Takes the next bytes of the array, from its '[' on, and appends its elements to `lines`, with a '\n'
  // after each whole element. Elements are told apart by brackets, commas and quotes; whether they are valid
  // JSON is checked by the reader of the lines. Error (kBadFile) naming the element for an empty one, for
  // brackets that do not match, and for anything after the array.
  void feed(std::string_view bytes, std::string* lines);
  // Called at the end of the file. Error (kBadFile) if the array has not ended.
  void finish() const;

 private:
  enum class State { kBefore, kInside, kBehind };

  void feed_structure(char c, std::string* lines);
  void end_element(bool last, std::string* lines);
  [[noreturn]] void refuse(const std::string& message) const;

  std::string file_;
  State state_ = State::kBefore;
  std::string closing_;  // the closing brackets of what is open within the element, the innermost last
  bool in_string_ = false, escaped_ = false;
  bool has_content_ = false;  // whether the current element has content
  int64_t element_ = 1;       // the current element's number
};

}  // namespace sepllm
