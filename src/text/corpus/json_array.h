// A JSON array as JSON lines, a piece at a time: an array of any length is never in memory as a whole.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace sepllm {

class JsonArrayLines {
 public:
  explicit JsonArrayLines(std::string file) : file_(std::move(file)) {}

  // The next bytes of the array, from its '[' on; what they have of its elements goes to the end of `lines`,
  // with a '\n' behind each whole element. Elements are told by brackets, commas and quotes: whether they are
  // valid JSON is for the reader of the lines to find. Error (kBadFile) naming the element for an empty one,
  // for brackets that do not match, and for anything behind the array.
  void feed(std::string_view bytes, std::string* lines);
  // The file is at its end. Error (kBadFile) where the array is not.
  void finish() const;

 private:
  enum class State { kBefore, kInside, kBehind };

  void feed_structure(char c, std::string* lines);
  void end_element(bool last, std::string* lines);
  [[noreturn]] void refuse(const std::string& message) const;

  std::string file_;
  State state_ = State::kBefore;
  std::string closing_;  // the brackets that must close what is open within the element, the innermost last
  bool in_string_ = false, escaped_ = false;
  bool has_content_ = false;  // of the element that is read
  int64_t element_ = 1;       // its number
};

}  // namespace sepllm
